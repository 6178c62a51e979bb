"""Tiles give the whole, where the margin covers what an output depends on."""

import pytest
import torch
import torch.nn.functional as F

import tokkit
from tests.small import CONV
from tokkit.errors import InputError
from tokkit.tiling import map_tiles, spans


def test_spans_by_hand() -> None:
    assert [(s.core.start, s.core.stop, s.seen.start, s.seen.stop) for s in spans(10, 4, 2)] == [
        (0, 4, 0, 6),
        (4, 8, 2, 10),
        (8, 10, 6, 10),
    ]


@pytest.mark.parametrize("shape", [(1, 2, 37), (2, 2, 19, 23), (1, 2, 9, 8, 11)])
def test_a_local_function_from_tiles_is_the_function_of_the_whole(shape: tuple[int, ...]) -> None:
    values = torch.rand(shape)
    conv = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[len(shape)]
    weight = torch.rand(3, 2, *[5] * (len(shape) - 2))

    def function(part: torch.Tensor) -> torch.Tensor:
        return conv(part, weight, padding=2)

    torch.testing.assert_close(map_tiles(function, values, tile=7, margin=2), function(values))


def test_scaling_down_and_up() -> None:
    values = torch.rand(1, 1, 24, 40)
    pooled = map_tiles(lambda part: F.avg_pool2d(part, 4), values, tile=8, margin=4, down=4)
    torch.testing.assert_close(pooled, F.avg_pool2d(values, 4))
    grown = map_tiles(lambda part: part.repeat_interleave(3, 2).repeat_interleave(3, 3), values, tile=5, margin=1, up=3)
    assert torch.equal(grown, values.repeat_interleave(3, 2).repeat_interleave(3, 3))
    with pytest.raises(InputError, match="multiples of 4"):
        map_tiles(lambda part: part, values, tile=6, margin=4, down=4)


class _Pool(tokkit.Encoder):
    """Mean of 2 x 2 pixels: sees nothing beyond its cell, so tiles must give exactly the codes of the whole."""

    channels, dim, rank, stride = 3, 3, 2, 2

    def forward(self, inputs: torch.Tensor) -> tokkit.Latents:
        pooled = F.avg_pool2d(inputs, 2)
        return tokkit.Latents(pooled.flatten(2).transpose(1, 2), tuple(pooled.shape[2:]))


def test_a_tokenizer_with_tiles() -> None:
    torch.manual_seed(0)
    parts = {"quantizer": tokkit.build("quantizer", "fsq", levels=(8, 8, 8)), "decoder": tokkit.build("decoder", "conv", **CONV).eval()}
    whole = tokkit.Tokenizer(modality="image", encoder=_Pool(), **parts).eval()
    tiled = tokkit.Tokenizer(modality="image", encoder=_Pool(), **parts, tile=16).eval()
    picture = torch.rand(2, 3, 37, 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokkit.Tokenizer, "fingerprint", "")
        expected, tokens = whole.encode(picture), tiled.encode(picture)
        assert tokens.grid == expected.grid == (19, 25)
        assert torch.equal(tokens.codes, expected.codes)
        assert tiled.decode(tokens).shape == (2, 3, 37, 50)
    with pytest.raises(InputError, match="multiple of the stride 2"):
        tokkit.Tokenizer(modality="image", encoder=_Pool(), **parts, tile=15)


def test_tokens_without_a_grid_are_not_cut() -> None:
    encoder = tokkit.build("encoder", "vit1d", **dict(tokkit.registry.get("encoder", "vit1d").example_options()))
    decoder = tokkit.build("decoder", "vit1d", **dict(tokkit.registry.get("decoder", "vit1d").example_options()))
    tok = tokkit.Tokenizer(
        modality="image", encoder=encoder, quantizer=tokkit.build("quantizer", "fsq"), decoder=decoder, tile=encoder.stride
    )
    with pytest.raises(InputError, match="tiles need one a cell"):
        tok.encode(torch.rand(3, encoder.stride * 3, encoder.stride * 3))
