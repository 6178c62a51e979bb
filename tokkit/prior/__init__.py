"""A prior: a small language model over the tokens of a tokenizer, which draws new ones. Knows token files, and no tokenizer.

Prior           the network, and drawing from it      network.py
PriorRecipe     what trains one                       recipe.py
BlockPrior      that draws blocks of tokens at once   blocks.py
train_prior     does                                  train.py
"""

from tokkit.prior.blocks import BlockPrior
from tokkit.prior.network import Prior
from tokkit.prior.recipe import PriorRecipe
from tokkit.prior.train import train_prior

__all__ = ["BlockPrior", "Prior", "PriorRecipe", "train_prior"]
