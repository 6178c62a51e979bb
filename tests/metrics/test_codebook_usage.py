"""Usage, entropy and perplexity by hand, for codebooks of any size."""

import pytest
import torch

from tokkit.metrics import codebook_usage
from tokkit.metrics.codebook_usage import CodebookUsage


def test_by_hand() -> None:
    """Level 0: codes 0, 0, 1, 3 of 4. Level 1: always 5 of 8."""
    usage = CodebookUsage((4, 8))
    usage.update(torch.tensor([[[0, 5], [0, 5]]]))
    usage.update(torch.tensor([[[1, 5], [3, 5]]]))
    first, second = usage.compute().levels
    assert (first.size, first.tokens, first.used, first.entropy) == (4, 4, 0.75, 1.5)
    assert first.perplexity == pytest.approx(2**1.5)
    assert (second.used, second.entropy, second.perplexity) == (1 / 8, 0.0, 1.0)
    assert usage.compute().summary()["usage_lowest"] == 1 / 8
    usage.reset()
    assert usage.compute().levels == ()


def test_a_codebook_too_large_to_count_code_by_code() -> None:
    usage = CodebookUsage((2**62, 2))
    for codes in ([[2**61, 0], [7, 1]], [[7, 1], [7, 1]]):
        usage.update(torch.tensor(codes))
    huge, small = usage.compute().levels
    assert (huge.size, huge.tokens, huge.used) == (2**62, 4, 2 / 2**62)
    assert huge.entropy == small.entropy == pytest.approx(0.811278, abs=1e-6)


def test_both_ways_of_counting_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.randint(50, (3, 7, 2), generator=torch.Generator().manual_seed(0))
    found = []
    for dense in (1 << 20, 1):
        monkeypatch.setattr(codebook_usage, "DENSE", dense)
        usage = CodebookUsage((50, 60))
        for part in codes:
            usage.update(part)
        usage.update(codes[0, :, :1])
        found.append(usage.compute())
    assert found[0] == found[1]
