"""Networks of points and fields, and tokenizers made of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from trimesh import creation

import tokkit
from tokkit.errors import InputError
from tokkit.modalities.base import FieldBatch
from tokkit.networks.base import Encoder, FieldDecoder
from tokkit.networks.voxels import read_cells
from tokkit.tokenizer import Tokenizer

PAIRS = [("points", "vecset"), ("points", "triplane"), ("voxels", "volume")]
pairs = pytest.mark.parametrize(("encoder_name", "decoder_name"), PAIRS)


def pair(encoder_name: str, decoder_name: str, **more: Any) -> tuple[Encoder, FieldDecoder]:
    torch.manual_seed(0)
    options = [tokkit.registry.get(kind, name).example_options() for kind, name in (("encoder", encoder_name), ("decoder", decoder_name))]
    encoder = tokkit.build("encoder", encoder_name, **options[0] | more)
    return encoder.eval(), tokkit.build("decoder", decoder_name, **options[1] | {"layers": 2}).eval()


def cloud(batch: int = 2, channels: int = 6, count: int = 50) -> torch.Tensor:
    return torch.rand(batch, channels, count, generator=torch.Generator().manual_seed(1)) * 2 - 1


def tokenizer(encoder_name: str = "voxels", decoder_name: str = "volume", **modality: Any) -> Tokenizer:
    torch.manual_seed(0)
    channels = 7 if modality.get("layers", 1) > 1 else 6
    encoder, _ = pair(encoder_name, decoder_name, channels=channels)
    options = tokkit.registry.get("decoder", decoder_name).example_options() | {"layers": modality.get("layers", 1)}
    return Tokenizer(
        modality=tokkit.build("modality", "mesh", points=128, resolution=16, **modality),
        encoder=encoder,
        quantizer=tokkit.build("quantizer", "fsq", levels=(4, 4)),
        decoder=tokkit.build("decoder", decoder_name, **options),
        name="small",
    ).eval()


@pairs
def test_shapes_and_gradients(encoder_name: str, decoder_name: str) -> None:
    encoder, decoder = pair(encoder_name, decoder_name)
    latents, grid = encoder(cloud())
    assert latents.shape[0] == 2 and latents.shape[2] == encoder.dim == decoder.dim
    assert grid == (() if encoder_name == "points" else (2, 2, 2)) and encoder.stride == decoder.stride == 1
    queries = torch.rand(2, 9, 3) * 2 - 1
    values = decoder.query(decoder(latents, grid), queries)
    assert values.shape == (2, 9, 2)
    values.square().sum().backward()
    for module in (encoder, decoder):
        assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []
    assert decoder.last_layer.shape[0] == 2


@pairs
def test_a_sample_depends_on_no_other_and_no_chunk(encoder_name: str, decoder_name: str) -> None:
    encoder, decoder = pair(encoder_name, decoder_name)
    latents, grid = encoder(cloud(3))
    alone, _ = encoder(cloud(3)[1:2])
    # Norms over the few, mostly empty cells of so small a grid enlarge what convolutions round otherwise in another batch.
    torch.testing.assert_close(alone, latents[1:2], atol=5e-4, rtol=1e-4)
    prepared = decoder(latents, grid)
    queries = torch.rand(3, 10, 3) * 2 - 1
    parts = torch.cat([decoder.query(prepared, part) for part in queries.split(3, 1)], 1)
    torch.testing.assert_close(parts, decoder.query(prepared, queries), atol=1e-5, rtol=1e-4)


@pairs
def test_bf16_spec_and_copy(encoder_name: str, decoder_name: str) -> None:
    encoder, decoder = pair(encoder_name, decoder_name)
    with torch.autocast("cpu", torch.bfloat16):
        latents, grid = encoder(cloud())
        assert decoder.query(decoder(latents, grid), torch.rand(2, 5, 3)).isfinite().all()
    for module in (encoder, decoder):
        again = tokkit.registry.spec_of(copy.deepcopy(module)).build()
        again.load_state_dict(module.state_dict())


def test_the_order_of_points_does_not_matter() -> None:
    for name, options in (("points", {}), ("voxels", {})):
        encoder = pair(name, "vecset" if name == "points" else "volume", **options)[0]
        shuffled = cloud()[..., torch.randperm(50)]
        torch.testing.assert_close(encoder(shuffled).values, encoder(cloud()).values, atol=1e-5, rtol=1e-4)


def test_fps_queries_are_points_and_their_number_can_change() -> None:
    encoder = pair("points", "vecset", queries="fps")[0]
    assert encoder(cloud()).values.shape[1] == 4
    encoder.num_tokens = 9  # type: ignore[assignment]
    assert encoder(cloud()).values.shape[1] == 9


def test_wrong_latents_and_options_are_refused() -> None:
    for decoder_name in ("vecset", "triplane"):
        decoder = pair("points", decoder_name)[1]
        assert decoder.query(decoder(torch.zeros(1, 2, 16), ()), torch.zeros(1, 1, 3)).shape == (1, 1, 2)
        with pytest.raises(InputError, match="at most num_tokens=4"):
            decoder(torch.zeros(1, 5, 16), ())
    with pytest.raises(InputError, match="do not fill the grid"):
        pair("voxels", "volume")[1](torch.zeros(1, 8, 16), ())
    for kind, name, options in (
        ("encoder", "points", {"depth": 3, "rounds": 2}),
        ("encoder", "voxels", {"features": 9}),
        ("decoder", "triplane", {"features": 9}),
        ("decoder", "volume", {"width": 15}),
    ):
        with pytest.raises(InputError):
            tokkit.build(kind, name, **options)


@pairs
def test_mesh_to_tokens_to_mesh(encoder_name: str, decoder_name: str, tmp_path: Path) -> None:
    tok = tokenizer(encoder_name, decoder_name, layers=2, fit="box")
    made = creation.box(extents=(1, 2, 4)).apply_translation([9, 9, 9])
    made.export(tmp_path / "box.obj")
    tokens = tok.encode(tmp_path / "box.obj")
    assert tokens.sizes == ((),) and tokens.names == ("box",) and tokens.extras[0][:3] == (9.0, 9.0, 9.0)
    tokens.save(tmp_path / "box.tok")
    loaded = tokkit.Tokens.load(tmp_path / "box.tok")
    first, second = tok.decode_each(tokens)[0], tok.decode_each(loaded)[0]
    assert torch.equal(first, second) and first.shape[0] == 9
    both = tok.encode([made, creation.icosphere(2)])
    assert torch.equal(both.codes[:1], tokens.codes), "the same codes in any batch"
    tok.save(tmp_path / "model")
    again = Tokenizer.from_pretrained(tmp_path / "model")
    assert torch.equal(again.encode(made).codes, tokens.codes) and again.fingerprint == tok.fingerprint


def test_a_token_file_of_a_shape_is_small(tmp_path: Path) -> None:
    tokens = tokenizer(layers=2).encode(creation.box())
    tokens.save(tmp_path / "x.tok")
    assert (tmp_path / "x.tok").stat().st_size <= tokens.payload_bits / 8 + 128


def test_training_forward_looks_at_the_queries() -> None:
    tok = tokenizer().train()
    batch = FieldBatch(cloud(4, 6, 128), torch.rand(4, 11, 3), torch.rand(4, 11, 1))
    output = tok(batch)
    assert output.reconstruction.shape == (4, 11, 1) and output.target is batch.targets
    assert [part.inputs.shape[0] for part in batch.chunk(2)] == [2, 2] and batch.to("cpu").inputs.shape == batch.inputs.shape


def test_field_losses_by_hand() -> None:
    distance = torch.tensor([[[-0.2], [0.05], [0.3]]])
    tsdf = tokkit.build("loss", "tsdf", truncation=0.1)
    assert tsdf(distance, torch.tensor([[[-1.0], [0.5], [1.0]]])).item() == pytest.approx(0)
    assert tsdf(distance, torch.zeros(1, 3, 1)).item() == pytest.approx((1 + 0.5 + 1) / 3)
    occupancy = tokkit.build("loss", "occupancy", sharpness=2.0)
    expected = torch.nn.functional.softplus(torch.tensor([-2.0, -2.0, 2.0])).mean()
    assert occupancy(distance, torch.tensor([[[-1.0], [1.0], [-1.0]]])).item() == pytest.approx(expected.item())


def test_the_compilers_way_to_read_cells_is_grid_sample() -> None:
    volume = torch.randn(2, 5, 3, 4, 6, dtype=torch.float64).float().requires_grad_()
    points = torch.rand(2, 200, 3) * 2.4 - 1.2  # some beyond the border
    points[0, :2] = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    expected = F.grid_sample(volume, points.flip(-1)[:, :, None, None], align_corners=False, padding_mode="border")
    expected = expected.flatten(2).transpose(1, 2)
    read = read_cells(volume, points)
    torch.testing.assert_close(read, expected, atol=2e-6, rtol=0)
    weights = torch.randn_like(read)
    slopes = [torch.autograd.grad((values * weights).sum(), volume)[0] for values in (read, expected)]
    torch.testing.assert_close(*slopes, atol=2e-5, rtol=0)
