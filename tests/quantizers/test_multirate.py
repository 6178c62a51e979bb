"""SNAC's levels of several rates: by hand, against rvq, and through token files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tokkit.errors import InputError
from tokkit.quantizers.multirate import MultiRate
from tokkit.quantizers.rvq import RVQ
from tokkit.tokens import Tokens


def with_books(books: list[list[float]], strides: tuple[int, ...], **options: Any) -> MultiRate:
    quantizer = MultiRate(dim=1, strides=strides, codebook_size=len(books[0]), dead_threshold=0.0, **options)
    for book, values in zip(quantizer.codebooks, books, strict=True):
        book.weight.data.copy_(torch.tensor(values)[:, None])
        book.started.fill_(True)
    return quantizer


def test_the_levels_by_hand() -> None:
    """[1, 3, 10, 10] has the mean 6, leaving [-5, -3, 4, 4]; pairs leave means -4 and 4; then -1, 1, 0, 0."""
    quantizer = with_books([[0.0, 6.0, 9.0], [-4.0, 0.0, 4.0], [-1.0, 0.0, 1.0]], (4, 2, 1)).eval()
    latents = torch.tensor([1.0, 3.0, 10.0, 10.0]).view(1, 4, 1)
    found = quantizer(latents)
    assert found.codes.tolist() == [[[1, 0, 2, 0, 2, 1, 1]]], "the slowest level first, each level in the order of time"
    assert found.latents.flatten().tolist() == [1, 3, 10, 10]
    heard = {count: quantizer.lookup(found.codes[..., :count]).flatten().tolist() for count in (1, 2, 3, 4, 7)}
    assert heard == {1: [6] * 4, 2: [2, 2, 6, 6], 3: [2, 2, 10, 10], 4: [1, 2, 10, 10], 7: [1, 3, 10, 10]}
    assert quantizer.codebook_sizes == (3,) * 7 and quantizer.num_codes(4) == 1 and quantizer.num_codes(5) == 2


def test_the_last_token_is_filled_up_with_the_last_latent() -> None:
    quantizer = with_books([[0.0, 6.0, 9.0], [-4.0, 0.0, 4.0], [-1.0, 0.0, 1.0]], (4, 2, 1)).eval()
    latents = torch.tensor([1.0, 3.0, 10.0]).view(1, 3, 1)
    whole = quantizer(torch.cat([latents, latents[:, -1:]], 1), (4,))
    found = quantizer(latents, (3,))
    assert torch.equal(found.codes, whole.codes) and torch.equal(found.latents, whole.latents[:, :3])
    assert torch.equal(quantizer.lookup(found.codes, (3,)), found.latents)
    for wrong in ((5,), (9,)):
        with pytest.raises(InputError, match="a grid of"):
            quantizer.lookup(found.codes, wrong)
    with pytest.raises(InputError, match="multiple of 4, got 3"):
        quantizer(latents)
    with pytest.raises(InputError, match="has 4 latents, got 3"):
        quantizer(latents, (4,))


@pytest.mark.parametrize("options", [{}, {"code_dim": 2}, {"code_dim": 2, "metric": "cosine", "learning": "gradient"}])
def test_with_strides_of_one_it_is_rvq(options: dict[str, object]) -> None:
    """Values, loss and gradient of a step."""
    rvq = RVQ(**{"dim": 4, "levels": 3, "codebook_size": 8, **options}).train()
    multirate = MultiRate(**{"dim": 4, "strides": (1, 1, 1), "codebook_size": 8, **options}).train()
    multirate.load_state_dict(rvq.state_dict())
    latents = torch.randn(2, 6, 4)
    results, gradients = [], []
    for quantizer in (rvq, multirate):
        torch.manual_seed(0)
        given = latents.clone().requires_grad_()
        found = quantizer(given)
        (found.latents.sin().sum() + found.loss).backward()
        results.append(found)
        gradients.append(given.grad)
    torch.testing.assert_close(results[0].latents, results[1].latents)
    torch.testing.assert_close(results[0].loss, results[1].loss)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert torch.equal(results[0].codes, results[1].codes)


def test_the_gradient_passes_through_once() -> None:
    """Means and what they leave add up to the identity, whatever the strides, when the last is 1."""
    quantizer = with_books([[0.0, 6.0], [-4.0, 4.0], [-1.0, 1.0]], (4, 2, 1), commitment=0.0).train()
    latents, upstream = torch.randn(3, 8, 1, requires_grad=True), torch.randn(3, 8, 1)
    quantizer(latents).latents.backward(upstream)
    torch.testing.assert_close(latents.grad, upstream)


def test_every_level_commits() -> None:
    """d/dx of the mean of squares of what each level leaves of its means: 2 (r - q) / rows, spread over s latents."""
    quantizer = with_books([[0.0, 6.0, 9.0], [-4.0, 0.0, 4.0], [-1.0, 0.0, 1.0]], (4, 2, 1), commitment=1.0, decay=0.999).train()
    latents = torch.tensor([1.2, 3.0, 10.0, 10.4]).view(1, 4, 1).requires_grad_()
    loss = quantizer(latents).loss
    loss.backward()
    slow, middle, fast = 6.15 - 6, [-3.9 + 4, 4.2 - 4], [1.2 - 2 + 1, 3 - 2 - 1, 0.0, 0.4]
    assert loss.item() == pytest.approx(slow**2 + sum(v**2 for v in middle) / 2 + sum(v**2 for v in fast) / 4, abs=1e-5)
    expected = [2 * slow / 4 + 2 * middle[i // 2] / 2 / 2 + 2 * fast[i] / 4 for i in range(4)]
    assert latents.grad is not None
    assert latents.grad.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_dropout_drops_whole_levels() -> None:
    quantizer = with_books([[0.0, 6.0], [-4.0, 4.0], [-1.0, 1.0]], (4, 2, 1), dropout=1.0, learning="gradient").train()
    latents = torch.randn(200, 4, 1) * 5
    found = quantizer(latents)
    parts = {count: quantizer.lookup(found.codes[..., :count]) for count in (1, 3, 7)}
    same = {count: torch.isclose(found.latents, part).all(1).flatten() for count, part in parts.items()}
    assert all(hits.sum() > 40 for hits in same.values()), "1, 2 and 3 levels, about a third each"


def test_tokens_go_through_a_file_and_one_vocabulary(tmp_path: Path) -> None:
    torch.manual_seed(0)
    quantizer = MultiRate(dim=4, strides=(8, 4, 2, 1), codebook_size=4096).eval()
    found = quantizer(torch.randn(2, 43, 4), (43,))
    tokens = Tokens(codes=found.codes, codebook_sizes=quantizer.codebook_sizes, grid=(43,), modality="audio")
    assert tokens.payload_bits == 6 * 15 * 12
    tokens.save(tmp_path / "a.tok")
    loaded = Tokens.load(tmp_path / "a.tok")
    assert torch.equal(loaded.codes, found.codes) and torch.equal(quantizer.lookup(loaded.codes, loaded.grid), found.latents)
    ids = tokens.flatten()
    assert ids.shape == (2, 90) and torch.equal(tokens.unflatten(ids).codes, found.codes)
    assert torch.equal(ids[:, 15:30] // 4096, torch.arange(15).expand(2, 15)), "a range of ids for each place in a token"


def test_strides_must_divide() -> None:
    for wrong in ((), (4, 3), (1, 2), (4, 0)):
        with pytest.raises(InputError, match="must divide the one before"):
            MultiRate(dim=4, strides=wrong)
