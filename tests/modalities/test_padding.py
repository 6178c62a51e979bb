"""Padding to a stride and cutting back, for every rank and type."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tokkit.errors import InputError
from tokkit.modalities.padding import crop, pad_to_multiple, padded_size


@pytest.mark.parametrize("shape", [(3, 17, 32), (2, 3, 17, 33), (3, 1, 1), (2, 3, 5, 40)])
@pytest.mark.parametrize("stride", [1, 8, 16])
def test_equals_replicate_padding_and_comes_back(shape: tuple[int, ...], stride: int) -> None:
    values = torch.rand(shape)
    padded = pad_to_multiple(values, stride, rank=2)
    height, width = padded_size(shape[-2:], stride)
    assert padded.shape == (*shape[:-2], height, width) and height % stride == width % stride == 0
    expected = F.pad(values, (0, width - shape[-1], 0, height - shape[-2]), mode="replicate")
    assert torch.equal(padded, expected)
    assert torch.equal(crop(padded, shape[-2:]), values)


def test_other_ranks_types_and_strides() -> None:
    audio = torch.arange(6).reshape(1, 2, 3)
    assert torch.equal(pad_to_multiple(audio, 4, rank=1), torch.tensor([[[0, 1, 2, 2], [3, 4, 5, 5]]]))
    video = torch.rand(1, 3, 5, 6, 7).bfloat16()
    padded = pad_to_multiple(video, (4, 8, 8), rank=3)
    assert padded.shape[2:] == padded_size((5, 6, 7), (4, 8, 8)) == (8, 8, 8)
    assert torch.equal(crop(padded, (5, 6, 7)), video)
    assert pad_to_multiple(torch.rand(3, 8, 8), 8, rank=2).shape == (3, 8, 8)


def test_gradient_passes() -> None:
    values = torch.rand(1, 3, 5, 5, requires_grad=True)
    pad_to_multiple(values, 4, rank=2).sum().backward()
    assert values.grad is not None and values.grad.sum() == 3 * 64


def test_refuses() -> None:
    with pytest.raises(InputError, match=r"make \(4, 4\) of the original size \(4, 5\)"):
        crop(torch.rand(3, 4, 4), (4, 5))
    for shape in ((3, 0, 4), (4,)):
        with pytest.raises(InputError, match="need 2 spatial axes"):
            pad_to_multiple(torch.rand(shape), 4, rank=2)
    for stride in (0, (2, 2, 2)):
        with pytest.raises(InputError, match="stride"):
            pad_to_multiple(torch.rand(3, 4, 4), stride, rank=2)
