"""Quantizers: latents to codes and back. One paper, one file; the registered name is the field's name for it."""
