"""Losses and discriminators of tokenizer training."""
