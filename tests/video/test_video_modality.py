"""Video files and folders of frames, in and out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import tokkit
from tests.video.moving import moving
from tokkit.errors import InputError
from tokkit.modalities.video import Video


def video(**options: object) -> Video:
    return tokkit.build("modality", "video", **options)


@pytest.mark.parametrize(
    ("suffix", "crf", "error"), [(".mp4", 17, 0.02), (".mp4", 0, 0), (".webm", 30, 0.02), (".mkv", 17, 0), (".avi", 17, 0)]
)
def test_written_files_read_back(suffix: str, crf: int, error: float, tmp_path: Path) -> None:
    values, path = moving(), tmp_path / f"one{suffix}"
    modality = video(crf=crf)
    modality.write(path, values, frame_rate=12.5)
    sample = modality.read(path)
    assert sample.name == "one" and sample.extras == (12.5,) and sample.values.shape == values.shape
    assert (sample.values - values).abs().mean() <= error
    with path.open("rb") as stream:
        assert torch.equal(modality.read(stream, name="member").values, sample.values)
    about = modality.about(path)
    assert (about.frames, about.rate, about.size) == (9, 12.5, (32, 48))
    with pytest.raises(InputError, match="exists"):
        modality.write(path, values)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_odd_sizes_one_frame_grey_and_fractional_rates(tmp_path: Path) -> None:
    values = moving(1, 21, 33)
    video().write(tmp_path / "a.mp4", values, frame_rate=29.97003)
    sample = video().read(tmp_path / "a.mp4")
    assert sample.values.shape == values.shape and (sample.values - values).abs().mean() < 0.02
    assert sample.extras[0] == pytest.approx(30000 / 1001, rel=1e-6)
    for rate in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(InputError, match="a frame rate is above 0 and at most 1000"):
            video().write(tmp_path / "b.mp4", values, frame_rate=rate)
    grey = video(channels=1)
    grey.write(tmp_path / "g.mkv", values[:1])
    assert torch.equal(grey.read(tmp_path / "g.mkv").values, values[:1]), "three equal channels have that luma"


def test_a_folder_without_frames_says_what_one_needs(tmp_path: Path) -> None:
    for missing in ("empty", "with a video"):
        (tmp_path / missing).mkdir()
    (tmp_path / "with a video" / "a.mp4").write_bytes(b"")
    for folder in tmp_path.iterdir():
        with pytest.raises(InputError, match=f"{folder.name}: a folder, but not of frames, which has pictures at its top"):
            Video().read(folder)


def test_folders_of_frames(tmp_path: Path) -> None:
    values, folder = moving(12, 8, 8), tmp_path / "frames"
    video().write(folder, values)
    assert torch.equal(video().read(folder).values, values)
    assert video().read(folder).extras == (25.0,) and video(frame_rate=10).read(folder).extras == (10.0,)
    assert torch.equal(video().read_clip(folder, 3, 4) / 255, values[:, 3:7])
    for index, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"{index}.png")  # 10 comes after 2
    assert torch.equal(video().read(folder).values, values)
    with pytest.raises(InputError, match="other things than frames"):
        video().write(folder, values, force=True)
    PIL.Image.new("RGB", (9, 8)).save(folder / "12.png")
    with pytest.raises(InputError, match="one size"):
        video().read(folder)
    with pytest.raises(InputError, match="a folder"):
        video().read(tmp_path)


def test_a_frame_rate_is_reached_by_repeating_and_leaving_out(tmp_path: Path) -> None:
    values, path = moving(), tmp_path / "a.mkv"
    video().write(path, values, frame_rate=24)
    assert torch.equal(video(frame_rate=12).read(path).values, values[:, ::2])
    assert torch.equal(video(frame_rate=48).read(path).values, values.repeat_interleave(2, 1))
    assert video(frame_rate=12).about(path).frames == 5
    assert video(frame_rate=18).read(path).values.shape[1] == 7
    assert torch.equal(video(frame_rate=12).read_clip(path, 2, 2) / 255, values[:, 4:8:2])


def test_clips_are_found_by_seeking(tmp_path: Path) -> None:
    values, path = moving(30), tmp_path / "a.mp4"
    video(crf=0).write(path, values)
    for start in (0, 7, 28):
        assert torch.equal(video().read_clip(path, start, 5) / 255, values[:, start : start + 5])
    with pytest.raises(InputError, match="from frame 30 on"):
        video().read_clip(path, 30, 5)


def test_blocks_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video().write(tmp_path / "a.mp4", moving())
    whole = video().read(tmp_path / "a.mp4").values
    monkeypatch.setattr("tokkit.modalities.video.PIECE_VALUES", 4 * 3 * 32 * 48)
    blocks, extras = video().blocks(tmp_path / "a.mp4")
    pieces = list(blocks)
    assert [piece.shape[1] for piece in pieces] == [4, 4, 1] and torch.equal(torch.cat(pieces, 1), whole) and extras == (25.0,)


def test_rotation_is_applied(tmp_path: Path) -> None:
    values, path = moving(3), tmp_path / "a.mp4"
    video(crf=0).write(path, values)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the matrix of the track header, version 0
    assert data[at : at + 4] == (1 << 16).to_bytes(4, "big")
    quarter = [0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30]  # what a telephone held upright writes
    data[at : at + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in quarter)
    path.write_bytes(data)
    assert torch.equal(video().read(path).values, torch.rot90(values, -1, (2, 3)))


def test_transparent_gif(tmp_path: Path) -> None:
    frames = [PIL.Image.fromarray(np.full((6, 5, 4), (0, 0, 60 * i, 255 * (i % 2)), np.uint8)) for i in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=40, disposal=2)
    red = video(background="red").read(tmp_path / "a.gif")
    assert red.extras == (25.0,)
    colours = red.values[:, :, 2, 2].T
    assert colours[0].tolist() == [1, 0, 0] and colours[3].tolist() == pytest.approx([0, 0, 180 / 255], abs=0.01)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mkv", "c.avi", "d.webm"):
        path = tmp_path / name
        video().write(path, moving())
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(InputError, match=rf"{name}: cut off"):
            video().read(path)
    playlist = tmp_path / "list.mp4"
    playlist.write_bytes(b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n")
    with pytest.raises(InputError, match="not a video"):
        video().read(playlist)
    silent = io.BytesIO()
    import soundfile

    soundfile.write(silent, np.zeros(8000), 8000, format="OGG")
    with pytest.raises(InputError, match="no video in it"):
        video().read(io.BytesIO(silent.getvalue()), name="sound")


def test_tensors_and_arrays() -> None:
    values = moving(3, 4, 5)
    array = (values * 255).byte().permute(1, 2, 3, 0).numpy()
    for given in (values, (values * 255).byte(), array, [values], values[None]):
        (sample,) = video(frame_rate=30).samples(given)
        assert torch.equal(sample.values, values) and sample.extras == (30.0,)
    wide = array.astype(np.longdouble) / 255
    torch.testing.assert_close(video().samples(wide)[0].values, values)
    for wrong in (values * 255, values[:1], values[:, :0], values[0], values.int(), array[0], array.astype(str)):
        with pytest.raises(InputError):
            video().samples(wrong)


def test_examples_are_clips_of_one_place_and_one_time(tmp_path: Path) -> None:
    values = moving(12, 24, 40)
    modality = video(clip=5)
    cut = modality.crop(values, 16, generator=torch.Generator().manual_seed(0))
    assert cut.shape == (3, 5, 16, 16)
    places = values.unfold(1, 5, 1).unfold(2, 16, 1).unfold(3, 16, 1)  # [3, t, y, x, 5, 16, 16]
    assert (places == cut[:, None, None, None]).flatten(4).all(4).all(0).sum() == 1
    assert modality.crop(values, 16, generator=torch.Generator(), center=True, resize=True).shape == (3, 5, 16, 16)
    assert torch.equal(
        modality.crop(values[:, :2], 16, generator=torch.Generator(), center=True)[:, 4],
        modality.crop(values[:, 1:2], 16, generator=torch.Generator(), center=True)[:, 0],
    )
    modality.write(tmp_path / "a.mkv", values)
    small = modality.read_example(tmp_path / "a.mkv", smallest=12)
    assert small.dtype == torch.uint8 and small.shape == (3, 12, 12, 20)
