"""The reconstruction losses of a run, with what some of them learn themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.losses.base import Loss, TokenizerParts
from tokkit.output import TokenizerOutput
from tokkit.quantizers.nested import Nested
from tokkit.registry import Spec
from tokkit.tokenizer import Tokenizer


class Judges:
    """The losses of a recipe, built for a tokenizer.

    Attributes:
        names: of the terms, distinct.
        module: all of them; its parameters that take gradients are trained with the tokenizer.
    """

    def __init__(self, losses: Sequence[Spec], tokenizer: Tokenizer, autocast: Any):
        quantizer = tokenizer.quantizer
        while isinstance(quantizer, Nested):
            quantizer = quantizer.quantizer
        parts = TokenizerParts(
            encoder=tokenizer.encoder,
            encoder_dim=tokenizer.encoder.dim,
            stride=tokenizer.encoder.stride,
            dim=tokenizer.quantizer.dim,
            codebook_sizes=quantizer.codebook_sizes,
            lookup=quantizer.lookup,
            autocast=autocast,
        )
        self.names = _distinct([spec.name for spec in losses])
        self.module = nn.ModuleList(spec.build() for spec in losses)
        for loss in self._losses():
            loss.attach(parts)
        self.module.to(tokenizer.device)

    def terms(self, target: Tensor, reconstruction: Tensor, output: TokenizerOutput) -> dict[str, Tensor]:
        """Every loss, weighted."""
        return {
            name: loss.weight * loss.of_output(target, reconstruction, output)
            for name, loss in zip(self.names, self._losses(), strict=True)
        }

    def compile(self, mode: str) -> None:
        """Through torch.compile, those losses that gain by it."""
        for loss in self._losses():
            if loss.compiles:
                loss.compile(mode=mode)

    def average_gradients(self) -> None:
        """Over all processes: the losses run outside of the wrapper that does this for the tokenizer."""
        if not dist.is_initialized():
            return
        for parameter in self.module.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                dist.all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()

    def state_dict(self) -> dict[str, Tensor]:
        """What a run cannot get elsewhere: what is trained, and what a loss says is to be kept; no weights of teachers."""
        trained = {name for name, parameter in self.module.named_parameters() if parameter.requires_grad}
        return {key: value for key, value in self.module.state_dict().items() if key in trained or self._is_kept(key)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """
        Raises:
            InputError: the state is that of other losses.
        """
        if differing := sorted(state.keys() ^ self.state_dict().keys()):
            raise InputError(f"the losses of the checkpoint are others: {', '.join(differing[:3])}")
        self.module.load_state_dict(state, strict=False)

    def _is_kept(self, key: str) -> bool:
        number, _, rest = key.partition(".")
        return rest.partition(".")[0] in self._losses()[int(number)].kept

    def _losses(self) -> list[Loss]:
        return [cast(Loss, loss) for loss in self.module]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered from the second on where one occurs again: two `mel` losses are two terms."""
    return [f"{name}_{before + 1}" if (before := list(names[:index]).count(name)) else name for index, name in enumerate(names)]
