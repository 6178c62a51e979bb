"""Tokens for the tests of tests/tokens."""

import torch

from tokkit.tokens import Tokens

FINGERPRINT = "0123456789abcdef" * 2


def random_codes(batch, positions, codebook_sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randint(0, size, (batch, positions), generator=generator) for size in codebook_sizes]
    return torch.stack(levels, dim=-1)


def make_tokens(batch=2, codebook_sizes=(1000,), grid=(2, 3), positions=None, seed=0, **options):
    """`batch` samples of random codes; options go to `Tokens`."""
    count = torch.Size(grid).numel() if positions is None else positions
    defaults = {
        "modality": "image",
        "tokenizer": "vq",
        "fingerprint": FINGERPRINT,
        "sizes": tuple((30 + i, 40 + i) for i in range(batch)),
        "names": tuple(f"sample-{i}.png" for i in range(batch)),
    }
    codes = random_codes(batch, count, codebook_sizes, seed)
    return Tokens(codes=codes, codebook_sizes=codebook_sizes, grid=grid, **{**defaults, **options})


def assert_same(left, right):
    assert left.header == right.header
    assert torch.equal(left.codes, right.codes)
    assert (left.grid, left.sizes, left.names, left.extras) == (right.grid, right.sizes, right.names, right.extras)
