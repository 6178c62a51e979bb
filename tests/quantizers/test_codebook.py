"""The codebook block: moving averages, k-means start and dead codes, with values worked out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from tokkit.quantizers.codebook import CHECK_DEAD_EVERY, Codebook, kmeans


def started(weight: list[list[float]], counts: list[float], **options: object) -> Codebook:
    """A codebook in the middle of training, with these vectors and average counts."""
    book = Codebook(size=len(weight), dim=len(weight[0]), **{"decay": 0.9, **options})
    with torch.no_grad():
        book.weight.copy_(torch.tensor(weight))
        book.counts.copy_(torch.tensor(counts))
        if book.learning == "ema":
            book.sums.copy_(torch.tensor(weight) * torch.tensor(counts).unsqueeze(-1))
        book.started.fill_(True)
    return book


def test_nearest_and_rows() -> None:
    book = started([[0.0, 0.0], [1.0, 1.0], [4.0, 0.0]], [1, 1, 1])
    rows = torch.tensor([[[0.1, 0.2], [3.0, 0.5]], [[0.6, 0.6], [100.0, 0.0]]])
    assert book.nearest(rows).tolist() == [[0, 2], [1, 2]]
    assert torch.equal(book.rows(book.nearest(rows)), torch.tensor([[[0.0, 0.0], [4.0, 0.0]], [[1.0, 1.0], [4.0, 0.0]]]))


def test_equal_distances_take_the_lowest_code() -> None:
    book = started([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], [1, 1, 1])
    assert book.nearest(torch.tensor([[0.0, 0.0], [1.0, 0.0]])).tolist() == [0, 0]


def test_moving_averages_by_hand() -> None:
    book = started([[0.0, 0.0], [4.0, 0.0]], [2.0, 2.0])
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [5.0, 0.0]])
    book.observe([(rows, torch.tensor([0, 0, 1]))])
    # counts: 0.9 * 2 + 0.1 * (2, 1); sums: 0.9 * (0, 8) + 0.1 * ((1, 2), (5, 0)).
    torch.testing.assert_close(book.counts, torch.tensor([2.0, 1.9]))
    torch.testing.assert_close(book.sums, torch.tensor([[0.1, 0.2], [7.7, 0.0]]))
    torch.testing.assert_close(book.weight, torch.tensor([[0.1 / 2.0, 0.2 / 2.0], [7.7 / 1.9, 0.0]]))


def test_rows_with_code_k_are_not_counted() -> None:
    book = started([[0.0], [4.0]], [2.0, 2.0])
    other = copy.deepcopy(book)
    book.observe([(torch.tensor([[1.0], [77.0]]), torch.tensor([0, 2]))])
    other.observe([(torch.tensor([[1.0]]), torch.tensor([0]))])
    assert torch.equal(book.weight, other.weight) and torch.equal(book.counts, other.counts)


def test_parts_observed_together_are_one_step() -> None:
    book = started([[0.0], [4.0]], [2.0, 2.0])
    other = copy.deepcopy(book)
    rows, codes = torch.tensor([[1.0], [5.0], [3.0]]), torch.tensor([0, 1, 1])
    book.observe([(rows[:1], codes[:1]), (rows[1:], codes[1:])])
    other.observe([(rows, codes)])
    torch.testing.assert_close(book.weight, other.weight)


def test_a_faded_code_keeps_its_place() -> None:
    book = started([[3.0], [4.0]], [0.0, 2.0])
    book.observe([(torch.tensor([[5.0]]), torch.tensor([1]))])
    assert book.weight[0].item() == 3.0 and torch.isfinite(book.weight).all()


def test_kmeans_finds_separate_clusters() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    points = (centres.repeat(50, 1) + torch.randn(200, 2) * 0.1)[torch.randperm(200)]
    found = [kmeans(points, 4) for _ in range(8)]
    # Lloyd's algorithm has local optima: most starts must end at the clusters, and all must explain the points well.
    exact = [torch.cdist(centres, centroids).amin(1).max() < 0.1 for centroids, _ in found]
    assert any(exact)
    assert all(counts.sum() == 200 for _, counts in found)
    error = [torch.cdist(points, centroids).amin(1).square().mean().item() for centroids, _ in found]
    assert min(error) < 0.05 and max(error) < torch.cdist(points, points.mean(0, keepdim=True)).square().mean().item()


def test_first_batch_starts_the_codebook_once() -> None:
    torch.manual_seed(0)
    book = Codebook(size=4, dim=2, decay=0.9)
    rows = torch.randn(3, 20, 2) + 100
    book.maintain(rows)
    assert bool(book.started) and book.weight.min() > 90 and book.counts.sum() == 60
    torch.testing.assert_close(book.sums, book.weight * book.counts.unsqueeze(-1))
    before = book.weight.clone()
    book.maintain(rows - 1000)
    assert torch.equal(book.weight, before)


def test_no_rows_do_not_start_it() -> None:
    book = Codebook(size=4, dim=2)
    book.maintain(torch.randn(0, 2))
    assert not book.started
    book.maintain(torch.randn(9, 2))
    assert book.started


def test_fewer_rows_than_codes_fill_up_over_the_next_steps() -> None:
    torch.manual_seed(0)
    book = Codebook(size=16, dim=2, decay=0.9)
    for _ in range(6 * CHECK_DEAD_EVERY):
        rows = torch.randn(5, 2)
        book.maintain(rows)
        book.observe([(rows, book.nearest(rows))])
    assert len(torch.unique(book.weight, dim=0)) == 16


@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_dead_codes_are_replaced_relative_to_uniform_usage(learning: str) -> None:
    torch.manual_seed(0)
    weight = [[0.0], [1.0], [2.0], [3.0]]
    # Uniform is 10 here; 0.1 of it is 1.0, so 0.9 is dead and 1.1 is not, and so at a thousandth of the batch.
    for scale in (1.0, 1e-3):
        book = started(weight, [0.9 * scale, 1.1 * scale, 18.0 * scale, 20.0 * scale], learning=learning)
        rows = torch.full((8, 1), 50.0)
        book.maintain(rows)
        assert book.weight[:, 0].tolist() == [50.0, 1.0, 2.0, 3.0]
        torch.testing.assert_close(book.counts[0], torch.tensor(10.0 * scale))
        if learning == "ema":
            torch.testing.assert_close(book.sums[0], torch.tensor([500.0 * scale]))


def test_dead_codes_are_looked_for_every_few_steps() -> None:
    book = started([[0.0], [1.0]], [0.0, 10.0])
    book.steps.fill_(1)
    replaced = []
    for _ in range(CHECK_DEAD_EVERY):
        book.maintain(torch.full((4, 1), 7.0))
        replaced.append(book.weight[0].item() == 7.0)
    assert replaced == [False] * (CHECK_DEAD_EVERY - 1) + [True]


def test_replacement_draws_distinct_rows_and_repeats_with_the_seed() -> None:
    book = started([[0.0]] * 6, [0.0] * 5 + [60.0])
    twin = copy.deepcopy(book)
    rows = torch.arange(1.0, 9.0).unsqueeze(-1)
    for each in (book, twin):
        torch.manual_seed(3)
        each.maintain(rows)
    assert torch.equal(book.weight, twin.weight)
    assert len(set(book.weight[:5, 0].tolist())) == 5 and set(book.weight[:5, 0].tolist()) <= set(rows[:, 0].tolist())


def test_zero_threshold_replaces_nothing() -> None:
    book = started([[0.0], [1.0]], [0.0, 10.0], dead_threshold=0.0)
    book.maintain(torch.full((4, 1), 7.0))
    assert book.weight[:, 0].tolist() == [0.0, 1.0]


def test_cosine_vectors_are_unit_and_start_unit() -> None:
    torch.manual_seed(0)
    book = Codebook(size=4, dim=3, metric="cosine")
    book.maintain(functional.normalize(torch.randn(40, 3), dim=-1))
    torch.testing.assert_close(book.vectors.norm(dim=-1), torch.ones(4))
    book.weight.mul_(torch.tensor([[0.1], [1.0], [5.0], [20.0]]))
    torch.testing.assert_close(book.vectors.norm(dim=-1), torch.ones(4))


def test_loading_resets_what_it_remembers_of_the_buffers() -> None:
    """Loading a checkpoint of step 0 into a trained codebook starts it anew, and the other way round does not."""
    torch.manual_seed(0)
    fresh, trained = Codebook(size=4, dim=2), Codebook(size=4, dim=2)
    trained.maintain(torch.randn(20, 2))
    state_fresh, state_trained = copy.deepcopy(fresh.state_dict()), copy.deepcopy(trained.state_dict())
    trained.load_state_dict(state_fresh)
    trained.maintain(torch.randn(20, 2) + 100)
    assert trained.weight.min() > 50
    fresh.load_state_dict(state_trained)
    fresh.maintain(torch.randn(20, 2) + 100)
    assert torch.equal(fresh.weight, state_trained["weight"])
