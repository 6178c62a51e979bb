"""The causal networks: what a frame may depend on, how they shrink, and pieces that equal the whole."""

from __future__ import annotations

import pytest
import torch

import tokkit
from tests.video.moving import SMALL, moving, tokenizer
from tokkit.errors import InputError

OPTIONS = [{}, {"factorized": True}, {"attention": True, "patch": 2}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_output_depends_on_a_later_frame(options: dict[str, object]) -> None:
    tok = tokenizer(**options)
    frames = moving(13, 16, 24).unsqueeze(0)
    changed = frames.clone()
    changed[:, :, 6:] = 1 - changed[:, :, 6:]
    (before, grid), (after, _) = tok.encoder(frames), tok.encoder(changed)
    a, b = (values.unflatten(1, grid) for values in (before, after))
    assert grid == (4, 16 // tok.encoder.stride, 24 // tok.encoder.stride)
    torch.testing.assert_close(a[:, :2], b[:, :2])  # frames 0 and 1 to 4
    assert not torch.allclose(a[:, 2], b[:, 2], atol=1e-3), "frames 5 to 8"
    c, d = (
        tok.decoder(before, grid),
        tok.decoder(torch.cat([before[:, : 2 * a[0, 0].numel() // a.shape[-1]], -after[:, 2 * a[0, 0].numel() // a.shape[-1] :]], 1), grid),
    )
    torch.testing.assert_close(c[:, :, :5], d[:, :, :5])
    assert not torch.allclose(c[:, :, 5], d[:, :, 5], atol=1e-3)


def test_a_picture_is_a_video_of_one_frame_and_a_still_video_repeats_its_code() -> None:
    tok = tokenizer()
    picture = moving(1, 16, 16)
    one = tok.encode(picture)
    assert one.grid == (1, 4, 4) and tok.decode(one).shape == (1, 3, 1, 16, 16)
    still = tok.encode(picture.expand(-1, 9, -1, -1))
    assert still.grid == (3, 4, 4)
    assert torch.equal(still.codes.unflatten(1, (3, 16)), one.codes.unsqueeze(1).expand(-1, 3, -1, -1))


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_any_length_and_size_comes_back(frames: int) -> None:
    tok = tokenizer()
    values = moving(frames, 10, 7)
    tokens = tok.encode(values)
    assert tokens.grid == (1 + -(-(frames - 1) // 4), 3, 2) and tokens.sizes == ((frames, 10, 7),)
    assert tok.decode(tokens).shape == (1, *values.shape)
    assert tok(values[None]).reconstruction.shape == (1, *values.shape)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 20), (3, 7, 13), (22, 1), (23,)], ids=str)
def test_streamed_pieces_equal_the_whole(sizes: tuple[int, ...], options: dict[str, object]) -> None:
    tok = tokenizer(**options)
    values = moving(23, 16, 20)
    whole = tok.encode(values)
    expected = tok.decode(whole)[0]
    with tok.stream() as stream:
        codes, frames = [], []
        for piece in values.split(list(sizes), 1):
            codes.append(stream.encode(piece))
            frames.append(stream.decode(codes[-1])[0])
        codes.append(stream.flush())
        frames.append(stream.decode(codes[-1])[0])
    assert torch.equal(torch.cat(codes, 1), whole.codes)
    got = torch.cat(frames, 1)[:, :23, :16, :20]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_a_stream_says_what_it_cannot_do() -> None:
    tok = tokenizer()
    with tok.stream() as stream:
        with pytest.raises(InputError, match=r"cells=\(height, width\)"):
            stream.decode(torch.zeros(1, 4, 1, dtype=torch.int64))
        assert stream.decode(torch.zeros(1, 4, 1, dtype=torch.int64), cells=(2, 2)).shape == (1, 3, 1, 8, 8)
        with pytest.raises(InputError, match="whole latent frames"):
            stream.decode(torch.zeros(1, 3, 1, dtype=torch.int64), cells=(2, 2))
        with pytest.raises(InputError, match=r"\[3, n, H, W\]"):
            stream.encode(torch.zeros(3, 8, 8))


def test_tiles_cut_height_and_width_and_leave_time_whole() -> None:
    tok = tokenizer()
    values = moving(5, 16, 96)
    whole = tok.encode(values)
    tok.tile = 64  # with margins of 16 pixels, more than these networks look at
    tiled = tok.encode(values)
    assert tiled.grid == whole.grid and (tiled.codes == whole.codes).float().mean() > 0.95
    assert tok.decode(tiled).shape == (1, *values.shape)


def test_wrong_options_and_sizes_are_refused() -> None:
    for wrong in ({"time": (2,)}, {"time": (2, 3)}, {"multipliers": ()}):
        with pytest.raises(InputError, match="causal3d"):
            tokkit.build("encoder", "causal3d", **SMALL | wrong)
    encoder = tokkit.build("encoder", "causal3d", **SMALL)
    with pytest.raises(InputError, match=r"1 \+ a multiple of 4, got 4"):
        encoder(torch.zeros(1, 3, 4, 8, 8))
    with pytest.raises(InputError, match=r"divides sizes by \(4, 4, 4\)|divides sizes by 4"):
        decoder = tokkit.build("decoder", "causal3d", **SMALL | {"time": (1, 2)})
        tokkit.Tokenizer(modality="video", encoder=encoder, quantizer=tokkit.build("quantizer", "fsq", levels=(8, 5)), decoder=decoder)
