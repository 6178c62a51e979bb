"""Codes as ids of one vocabulary, and back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from token_cases import assert_same, make_tokens, random_codes

from tokkit.errors import InputError
from tokkit.tokens import bos_id, eos_id, flatten_codes, unflatten_codes, vocabulary_size


def test_order_and_ids():
    codes = torch.tensor([[[0, 1, 2], [3, 4, 5]]])
    ids = flatten_codes(codes, (10, 20, 30), bos=True, eos=True, offset=1000)
    assert ids.tolist() == [[1060, 1000, 1011, 1032, 1003, 1014, 1035, 1061]]
    assert vocabulary_size((10, 20, 30)) == 62
    assert (bos_id((10, 20, 30), 1000), eos_id((10, 20, 30), 1000)) == (1060, 1061)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 2**40), min_size=1, max_size=5).map(tuple),
    batch=st.integers(1, 3),
    positions=st.integers(0, 5),
    bos=st.booleans(),
    eos=st.booleans(),
    offset=st.sampled_from([0, 1, 50_257]),
)
def test_exact_inverse(sizes, batch, positions, bos, eos, offset):
    tokens = make_tokens(batch, sizes, grid=(positions,))
    ids = tokens.flatten(bos=bos, eos=eos, offset=offset)
    assert ids.shape == (batch, positions * len(sizes) + bos + eos) and ids.dtype == torch.int64
    assert ((ids >= offset) & (ids < offset + tokens.vocabulary_size)).all()
    assert_same(tokens.unflatten(ids, offset=offset), tokens)


def test_empty_batch():
    tokens = make_tokens(0, (5, 7), grid=(3,))
    assert_same(tokens.unflatten(tokens.flatten()), tokens)


def test_any_number_of_leading_axes():
    codes = random_codes(6, 4, (5, 7)).reshape(2, 3, 4, 2)
    assert torch.equal(unflatten_codes(flatten_codes(codes, (5, 7), bos=True), (5, 7)), codes)
    assert torch.equal(unflatten_codes(flatten_codes(codes[0, 0], (5, 7), eos=True), (5, 7)), codes[0, 0])


def test_levels_share_no_id():
    ids = make_tokens(4, (3, 5, 2), grid=(50,)).flatten().reshape(-1, 3)
    assert [sorted(set(column.tolist())) for column in ids.T] == [[0, 1, 2], [3, 4, 5, 6, 7], [8, 9]]


def test_generated_ids_take_the_template_of_one_sample():
    template = make_tokens(1, (5, 7), grid=(4,), extra_fields=("gain",), extras=((0.5,),))
    generated = make_tokens(3, (5, 7), grid=(4,), positions=2, seed=9)
    tokens = template.unflatten(generated.flatten(bos=True))
    assert torch.equal(tokens.codes, generated.codes)
    assert (tokens.grid, tokens.names, tokens.sizes) == ((4,), ("",) * 3, template.sizes * 3)
    assert tokens.extras == ((0.5,),) * 3


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[0, 3, 1, 12]], r"id 12 at \[0, 3\] .* level 1, whose ids are 3 to 9"),
        ([[0, 3, 4, 3]], r"id 4 at \[0, 2\] .* level 0, whose ids are 0 to 2"),
        ([[-1, 3]], r"id -1 at \[0, 0\]"),
        ([[-(2**63), 3]], "id -9223372036854775808"),
        ([[0, 2**63 - 1]], "id 9223372036854775807"),
        ([[10, 0, 3, 10, 0]], r"id 10 at \[0, 2\]"),
        ([[0, 3, 11, 3, 11]], r"id 11 at \[0, 2\]"),
        ([[0, 3, 0]], "3 ids do not divide into positions of 2"),
        ([[0, 3], [1, 4], [1, 4]], r"ids must be \[2, L\]"),
        ([0, 3], r"ids must be \[2, L\]"),
        ([[0.0, 3.0]], "int64"),
    ],
)
def test_wrong_ids(ids, message):
    with pytest.raises(InputError, match=message):
        make_tokens(2, (3, 7)).unflatten(torch.tensor(ids))


@pytest.mark.parametrize("ids", [[[0, 3]], np.zeros((2, 4), np.int64)])
def test_ids_that_are_no_tensor_are_refused_by_their_type(ids):
    with pytest.raises(InputError, match=f"ids must be a tensor.* got {type(ids).__name__}"):
        make_tokens(2, (3, 7)).unflatten(ids)


def test_one_row_without_bos_is_refused():
    ids = make_tokens(2, (3, 7)).flatten(bos=True)
    ids[1, 0] = 0
    with pytest.raises(InputError):
        make_tokens(2, (3, 7)).unflatten(ids)


@pytest.mark.parametrize(("sizes", "offset"), [((2**62, 2**62), 0), ((10,), 2**63 - 11), ((10,), -1)])
def test_vocabulary_must_fit(sizes, offset):
    with pytest.raises(InputError, match="does not fit in an int64"):
        make_tokens(1, sizes).flatten(offset=offset)


def test_the_largest_vocabulary_fits():
    tokens = make_tokens(1, (2**62, 2**61), grid=(3,))
    assert_same(tokens.unflatten(tokens.flatten(bos=True)), tokens)


def test_codes_of_another_shape():
    with pytest.raises(InputError, match=r"\[..., N, 2\]"):
        flatten_codes(random_codes(1, 4, (5,)), (5, 7))
