"""The image modality against Pillow and numpy: every kind of file, every kind of input, every kind of damage."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from PIL import ImageOps, features

import tokkit
from tokkit.errors import InputError

IMAGE = tokkit.build("modality", "image")
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (13, 9, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (13, 9), dtype=np.uint16)


def floats(pixels: np.ndarray, full: float = 255) -> torch.Tensor:
    """[H, W, C] or [H, W] to what `read` should give."""
    pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / full


def file_of(picture: PIL.Image.Image, form: str, **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    stream.seek(0)
    return stream


def png_of(width: int, height: int, depth: int, data: bytes) -> bytes:
    """A colour PNG around compressed rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = [kind + body for kind, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))]
    packed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def read(picture: PIL.Image.Image, form: str, **options: object) -> torch.Tensor:
    values = IMAGE.read(file_of(picture, form, **options), name="picture").values
    assert values.dtype == torch.float32 and values.is_contiguous() and values.shape[0] == 3
    assert values.min() >= 0 and values.max() <= 1
    return values


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_lossless_files_come_back_exactly(form: str, options: dict[str, object]) -> None:
    assert torch.equal(read(PIL.Image.fromarray(RGB), form, **options), floats(RGB))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
def test_lossy_files_are_as_pillow_reads_them(form: str) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    stream = file_of(PIL.Image.fromarray(RGB), form)
    expected = np.asarray(PIL.Image.open(io.BytesIO(stream.getvalue())))
    assert torch.equal(IMAGE.read(stream).values, floats(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    for form in ("JPEG", "PNG", "TIFF", "WEBP"):
        stream = file_of(PIL.Image.fromarray(RGB), form, exif=exif)
        upright = ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(stream.getvalue())))
        assert torch.equal(IMAGE.read(stream).values, floats(np.asarray(upright))), form
    assert (upright.size == (13, 9)) == (orientation >= 5)


def test_grey_bilevel_and_palette() -> None:
    grey = PIL.Image.fromarray(RGB[..., 0])
    assert torch.equal(read(grey, "PNG"), floats(RGB[..., 0]))
    assert torch.equal(read(grey.convert("1"), "PNG"), floats(np.asarray(grey.convert("1").convert("L"))))
    palette = PIL.Image.fromarray(RGB).convert("P")
    assert torch.equal(read(palette, "PNG"), floats(np.asarray(palette.convert("RGB"))))


def test_first_frame_of_an_animation() -> None:
    frames = [PIL.Image.fromarray(np.full((4, 5, 3), value, np.uint8)) for value in (10, 200)]
    values = read(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert torch.equal(values, torch.full((3, 4, 5), 10 / 255))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_16_bits(form: str) -> None:
    values = read(PIL.Image.fromarray(DEEP), form)
    assert torch.equal(values, floats(DEEP, 65535))
    assert len(values.unique()) > 100, "clipped or cut to 8 bits"


def test_16_bit_as_32_bit_integers_and_float_tiff() -> None:
    assert torch.equal(read(PIL.Image.fromarray(DEEP.astype(np.int32)), "TIFF"), floats(DEEP, 65535))
    assert torch.equal(read(PIL.Image.fromarray(DEEP.astype(np.float32) / 65535), "TIFF"), floats(DEEP, 65535))
    with pytest.raises(InputError, match=r"picture: pixels from .* expected 0 to 65535"):
        read(PIL.Image.fromarray(DEEP.astype(np.int32) * 2), "TIFF")
    with pytest.raises(InputError, match="expected 0 to 1"):
        read(PIL.Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF")


def test_16_bit_colour_gives_the_upper_8_bits() -> None:
    deep = RNG.integers(0, 65536, (3, 4, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    png = png_of(4, 3, 16, zlib.compress(rows))
    assert (IMAGE.read(io.BytesIO(png)).values - floats(deep, 65535)).abs().max() <= 1 / 255


def test_cmyk_is_as_pillow_converts_it() -> None:
    stream = file_of(PIL.Image.fromarray(RGB).convert("CMYK"), "JPEG")
    expected = np.asarray(PIL.Image.open(io.BytesIO(stream.getvalue())).convert("RGB"))
    assert torch.equal(IMAGE.read(stream).values, floats(expected))


@pytest.mark.parametrize(("background", "behind"), [("white", 1.0), ("black", 0.0)])
def test_alpha_is_composited(background: str, behind: float) -> None:
    image = tokkit.build("modality", "image", background=background)
    alpha = RNG.integers(0, 256, (13, 9), dtype=np.uint8)
    weight = torch.from_numpy(alpha.astype(np.float32)) / 255
    expected = floats(RGB) * weight + behind * (1 - weight)
    values = image.read(file_of(PIL.Image.fromarray(np.dstack([RGB, alpha])), "PNG")).values
    assert torch.allclose(values, expected, atol=1e-6) and values.shape == (3, 13, 9)
    grey = image.read(file_of(PIL.Image.fromarray(np.dstack([RGB[..., 0], alpha])), "PNG")).values
    assert torch.allclose(grey, floats(RGB[..., 0]) * weight + behind * (1 - weight), atol=1e-6)


def test_transparent_colour_of_palette_and_deep_grey() -> None:
    indices = np.array([[0, 1], [1, 2]], np.uint8)
    palette = PIL.Image.fromarray(indices).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    values = read(palette, "PNG", transparency=1) * 255
    assert values[:, 0, 0].round().tolist() == [10, 20, 30] and values[:, 0, 1].tolist() == [255, 255, 255]
    png = bytearray(file_of(PIL.Image.fromarray(np.array([[1000, 2000]], np.uint16)), "PNG").getvalue())
    chunk = b"tRNS" + struct.pack(">H", 2000)
    png[33:33] = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert IMAGE.read(io.BytesIO(bytes(png))).values[0, 0].tolist() == pytest.approx([1000 / 65535, 1.0])


def test_one_channel() -> None:
    grey = tokkit.build("modality", "image", channels=1)
    assert torch.allclose(
        grey.read(file_of(PIL.Image.fromarray(RGB), "PNG")).values,
        torch.from_numpy(np.asarray(PIL.Image.fromarray(RGB).convert("L")).astype(np.float32) / 255)[None],
        atol=1 / 255,
    )
    assert torch.equal(grey.read(file_of(PIL.Image.fromarray(DEEP), "PNG")).values, floats(DEEP, 65535)[:1])


def test_constructor_refuses() -> None:
    with pytest.raises(InputError, match="channels must be 3"):
        tokkit.build("modality", "image", channels=4)
    with pytest.raises(InputError, match="'blurple'"):
        tokkit.build("modality", "image", background="blurple")


def test_unreadable_files_are_named_with_the_reason(tmp_path: Path) -> None:
    png, jpeg = (file_of(PIL.Image.fromarray(RGB), form).getvalue() for form in ("PNG", "JPEG"))
    cases = {
        "empty.png": (b"", "empty, 0 bytes"),
        "cut.png": (png[: len(png) // 2], "damaged picture: .*truncated"),
        "cut.jpg": (jpeg[:-60], "damaged picture: .*truncated"),
        "text.png": (b"this is not a picture", "not a picture that can be read .*PNG, JPEG"),
        "bomb.png": (png_of(40000, 40000, 8, b""), "1600000000 pixels.*MAX_IMAGE_PIXELS"),
        "vector.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: .*{reason}"):
            IMAGE.read(tmp_path / name)
        with pytest.raises(InputError, match=f"member {name}: .*{reason}"):
            IMAGE.read(io.BytesIO(content), name=f"member {name}")
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        IMAGE.read(str(tmp_path / "none.png"))
    with pytest.raises(InputError, match="a folder, expected a file"):
        IMAGE.read(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="not a regular file"):
        IMAGE.read(tmp_path / "pipe.png")


def test_flipped_and_missing_bytes_never_crash() -> None:
    picture, chance = PIL.Image.fromarray(RGB), random.Random(0)
    forms = ["PNG", "JPEG", "WEBP", "BMP", "GIF", *(["AVIF"] if features.check("avif") else [])]
    for form in forms:
        whole = file_of(picture.convert("P") if form == "GIF" else picture, form).getvalue()
        for _ in range(150):
            data = bytearray(whole[: chance.randrange(1, len(whole) + 1)] if chance.random() < 0.3 else whole)
            for _ in range(chance.randint(0, 5)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            try:
                values = IMAGE.read(io.BytesIO(bytes(data)), name="fuzzed").values
            except InputError as error:
                assert str(error).startswith("fuzzed: ")
            else:
                assert values.isfinite().all()


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really a png.jpg"
    path.write_bytes(file_of(PIL.Image.fromarray(RGB), "PNG").getvalue())
    sample = IMAGE.read(path)
    assert sample.name == "really a png" and torch.equal(sample.values, floats(RGB))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".PNG"])
def test_write_and_read_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / f"out{suffix}"
    IMAGE.write(path, floats(RGB))
    assert torch.equal(IMAGE.read(path).values, floats(RGB))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "a temporary file was left"


def test_write_rounds_half_up_and_clamps(tmp_path: Path) -> None:
    steps = torch.tensor([-1.0, 0.0, 0.49, 0.5, 1.5, 254.49, 254.5, 255.0, 1000.0]) / 255
    IMAGE.write(tmp_path / "a.png", steps.expand(3, 1, -1).clone().requires_grad_())
    assert np.asarray(PIL.Image.open(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 0, 0, 1, 2, 254, 255, 255, 255]
    IMAGE.write(tmp_path / "b.png", torch.full((1, 2, 2), 0.5, dtype=torch.bfloat16))
    assert PIL.Image.open(tmp_path / "b.png").mode == "L"


def test_write_jpeg(tmp_path: Path) -> None:
    smooth = torch.linspace(0, 1, 64).expand(3, 64, 64)
    IMAGE.write(tmp_path / "a.jpg", smooth)
    assert PIL.Image.open(tmp_path / "a.jpg").format == "JPEG"
    assert (IMAGE.read(tmp_path / "a.jpg").values - smooth).abs().max() < 0.02


def test_write_refuses(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    IMAGE.write(path, floats(RGB))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"a\.png exists"):
        IMAGE.write(path, floats(RGB) * 0)
    assert path.read_bytes() == before
    IMAGE.write(path, floats(RGB) * 0, force=True)
    assert path.read_bytes() != before
    with pytest.raises(InputError, match=r"cannot write '\.gif'; use \.png"):
        IMAGE.write(tmp_path / "a.gif", floats(RGB))
    with pytest.raises(InputError, match=r"\[3, H, W\] or \[1, H, W\], got \[2, 3, 13, 9\]"):
        IMAGE.write(tmp_path / "b.png", floats(RGB).expand(2, 3, 13, 9))
    with pytest.raises(InputError, match="1 NaN values"):
        IMAGE.write(tmp_path / "b.png", torch.tensor([[[0.5, float("nan")]]]))
    with pytest.raises(InputError, match=r"b\.webp: cannot write the picture"):
        IMAGE.write(tmp_path / "b.webp", torch.zeros(3, 1, 20000))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"], "something was left behind"


def test_samples_takes_everything(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    PIL.Image.fromarray(RGB).save(path)
    expected = floats(RGB)
    tensor8 = torch.from_numpy(RGB).permute(2, 0, 1)
    given = [str(path), path, PIL.Image.open(path), PIL.Image.fromarray(RGB), expected, tensor8, RGB, RGB.astype(np.float64) / 255]
    for one in given:
        (sample,) = IMAGE.samples(one)
        assert sample.values.dtype == torch.float32 and torch.allclose(sample.values, expected, atol=1e-7), type(one)
    assert [sample.name for sample in IMAGE.samples(given)] == ["cat", "cat", "cat", "3", "4", "5", "6", "7"]
    batch = torch.stack([expected, expected.flip(1)])
    for one in (batch, list(batch), (batch[0], [batch[1]]), batch.permute(0, 2, 3, 1).numpy()):
        assert torch.equal(torch.stack([sample.values for sample in IMAGE.samples(one)]), batch)
    assert IMAGE.samples([]) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.rand(3, 4, 4) * 255, "values from .* divide by 255, or give uint8"),
        (torch.rand(3, 4, 4) * 2 - 1, r"map it with \(x \+ 1\) / 2"),
        (torch.full((3, 4, 4), float("nan")), "48 NaN or infinite"),
        (torch.full((3, 4, 4), float("inf")), "48 NaN or infinite"),
        (torch.rand(4, 4, 3), r"tensor of shape \[4, 4, 3\] has 4 channels: expected \[C, H, W\] with 3"),
        (torch.rand(4, 4), "expected"),
        (torch.rand(3, 0, 4), "no pixels"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "expected float"),
        (np.zeros((4, 4, 1), np.uint8), r"array of shape \[4, 4, 1\] has 1 channels: expected \[H, W, C\] with 3"),
        (np.zeros((4, 4, 3), np.uint16), "divide by 65535"),
        (np.zeros((4, 4, 3), bool), "array of bool"),
        (17, "cannot take a int; give a path, a PIL image"),
        (None, "cannot take a NoneType"),
        ([torch.rand(3, 4, 4), {"a": 1}], "cannot take a dict"),
    ],
)
def test_samples_refuses_with_a_remedy(given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        IMAGE.samples(given)


@pytest.mark.filterwarnings("error")
def test_samples_of_memory_that_is_not_to_be_written_to() -> None:
    """Pillow's pixels are such: of one pixel, and of grey, torch would take them as they are."""
    point = PIL.Image.new("RGB", (1, 1), (0, 51, 255))
    torch.testing.assert_close(IMAGE.samples(point)[0].values, torch.tensor([0, 0.2, 1])[:, None, None])
    torch.testing.assert_close(IMAGE.samples(np.asarray(point))[0].values, torch.tensor([0, 0.2, 1])[:, None, None])
    assert tokkit.build("modality", "image", channels=1).samples(np.broadcast_to(np.float32(0.5), (4, 5, 1)))[0].values.shape == (1, 4, 5)


def test_samples_of_long_doubles_and_of_an_empty_batch() -> None:
    torch.testing.assert_close(IMAGE.samples(np.full((2, 2, 3), 0.5, np.longdouble))[0].values, torch.full((3, 2, 2), 0.5))
    assert IMAGE.samples(torch.empty(0, 3, 4, 4)) == []


def test_samples_allows_rounding_beyond_the_range() -> None:
    (sample,) = IMAGE.samples(torch.tensor([-1e-7, 1 + 1e-6]).expand(3, 1, 2))
    assert sample.values.min() == 0 and sample.values.max() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_crop(dtype: torch.dtype) -> None:
    values = torch.from_numpy(RNG.integers(0, 256, (3, 40, 60), dtype=np.uint8))
    values = values if dtype == torch.uint8 else values.float() / 255
    generator = torch.Generator().manual_seed(0)
    middle = IMAGE.crop(values, 20, generator=generator, center=True)
    assert torch.equal(middle, values[:, 10:30, 20:40])
    places = set()
    for _ in range(200):
        cut = IMAGE.crop(values, 38, generator=generator)
        (place,) = [(y, x) for y in range(3) for x in range(23) if torch.equal(values[:, y : y + 38, x : x + 38], cut)]
        places.add(place)
    assert {y for y, _ in places} == {0, 1, 2} and {0, 22} <= {x for _, x in places}
    mirrored = [IMAGE.crop(values, 20, generator=generator, center=True, flip=True) for _ in range(40)]
    assert 8 < sum(torch.equal(cut, middle.flip(2)) for cut in mirrored) < 32


def test_crop_resizes_the_short_side() -> None:
    ramp = torch.linspace(0, 1, 60).expand(3, 40, 60)
    generator = torch.Generator()
    small = IMAGE.crop(ramp, 20, generator=generator, center=True, resize=True)
    assert small.shape == (3, 20, 20) and small[0, 0, [0, -1]].tolist() == pytest.approx([1 / 6, 5 / 6], abs=0.02)
    enlarged = IMAGE.crop(ramp, 80, generator=generator, center=True)
    assert enlarged.shape == (3, 80, 80) and enlarged.min() >= 0 and enlarged.max() <= 1
    for size in (20, 80):
        steps = IMAGE.crop(ramp.mul(255).round().to(torch.uint8), size, generator=generator, center=True, resize=True)
        floats_ = IMAGE.crop(ramp, size, generator=generator, center=True, resize=True)
        assert steps.dtype == torch.uint8 and (steps / 255 - floats_).abs().max() < 1.6 / 255


def test_read_example(tmp_path: Path) -> None:
    pixels = PIL.Image.fromarray(RGB).resize((400, 300), PIL.Image.Resampling.BICUBIC)
    half, full = (150, 200), (300, 400)
    for suffix, smallest, expected in ((".png", 50, full), (".jpg", 50, half), (".jpg", 80, full), (".jpg", None, full)):
        path = tmp_path / f"a{suffix}"
        pixels.save(path)
        values = IMAGE.read_example(path, smallest=smallest)
        assert values.dtype == torch.uint8 and values.shape == (3, *expected)
        whole = IMAGE.read(path).values
        small, exact = (IMAGE.crop(part, 50, generator=torch.Generator(), resize=True, center=True) for part in (values, whole))
        assert (small / 255 - exact).abs().mean() < 1.5 / 255
    assert torch.equal(values.float() / 255, whole)
    PIL.Image.fromarray(DEEP).save(tmp_path / "deep.png")
    assert IMAGE.read_example(tmp_path / "deep.png").dtype == torch.float32


def test_normalize() -> None:
    values = floats(RGB)
    assert IMAGE.normalize(values).aminmax() == torch.aminmax(values * 2 - 1)
    assert torch.allclose(IMAGE.denormalize(IMAGE.normalize(values)), values, atol=1e-6)
    assert IMAGE.denormalize(torch.tensor([-3.0, 3.0])).tolist() == [0, 1]
    assert IMAGE.denormalize(torch.tensor([-3.0, 3.0]), clamp=False).tolist() == [-1, 2]


def test_black_and_white_cannot_be_overdone() -> None:
    target = torch.tensor([1.0, 1.0, -1.0, -1.0, 0.9, -0.9, 0.0]).view(1, 1, 1, 7)
    reconstruction = torch.tensor([1.5, 0.8, -1.1, 1.3, 1.2, -1.2, -2.0]).view(1, 1, 1, 7).requires_grad_()
    shown = IMAGE.shown(reconstruction, target)
    assert shown.flatten().tolist() == pytest.approx([1.0, 0.8, -1.0, 1.3, 1.2, -1.2, -2.0])
    decoded = [IMAGE.denormalize(values).flatten() for values in (shown, reconstruction)]
    assert torch.equal(*decoded), "the loss sees what decoding shows"
    (shown - target).square().sum().backward()
    assert reconstruction.grad is not None
    assert (reconstruction.grad.flatten() != 0).tolist() == [False, True, False, True, True, True, True]


def test_import_is_light() -> None:
    code = "import sys, tokkit.modalities.image; print([m for m in ('torchvision', 'skimage', 'torchmetrics') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
