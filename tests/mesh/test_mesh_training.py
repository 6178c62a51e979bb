"""Preparing meshes, reading the shards, and a run of training from recipe to mesh."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from trimesh import creation
from typer.testing import CliRunner

import tokkit
from tokkit.bench.encode import file_system, measure_encode
from tokkit.bulk.encode import EncodeOptions
from tokkit.bulk.prepare import PrepareOptions, prepare_files
from tokkit.bulk.prepared import encode_prepared
from tokkit.cli.prepare import prepare_command
from tokkit.data.loader import batches
from tokkit.data.mesh_shards import MANIFEST
from tokkit.data.shapes import Counts, Prepared, Warp
from tokkit.errors import InputError
from tokkit.geometry.shape import Solid
from tokkit.modalities.base import FieldBatch
from tokkit.modalities.mesh import Mesh
from tokkit.recipe import Recipe
from tokkit.tokenizer import Tokenizer
from tokkit.train import train

RECIPES = Path(__file__).parents[2] / "recipes" / "mesh"
TRAINED = Path(__file__).parents[2] / "benchmarks" / "training"
COUNTS = Counts(surface=200, sharp=60, near=80, volume=40)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meshes")
    creation.box(extents=(1, 2, 3)).export(folder / "box.obj")
    (folder / "below").mkdir()
    creation.icosphere(2).export(folder / "below" / "ball.stl")
    (folder / "broken.obj").write_bytes(b"v 0 0 0\n")
    return folder


@pytest.fixture(scope="module")
def shards(meshes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards")
    summary = prepare_files([meshes], out, PrepareOptions(counts=COUNTS, layers=2, workers=1, shard_size=2))
    assert (summary.done, summary.skipped) == (2, 0) and [failure.name for failure in summary.failures] == ["broken.obj"]
    return out


def test_distances_of_a_prepared_ball_are_negative_inside() -> None:
    shape = Prepared.of(Solid.of(np.asarray(creation.icosphere(4).triangles), fill=0.95), COUNTS, layers=1)
    radius = np.linalg.norm(shape.queries / 32767, axis=1)
    assert shape.distances.dtype == np.float16 and np.abs(shape.distances[:, 0] - (radius - 0.95)).max() < 0.012
    assert ((shape.distances[:, 0] < 0) == (radius < 0.95))[np.abs(radius - 0.95) > 0.01].all()
    again = Prepared.from_bytes(shape.to_bytes(), "x")
    assert np.array_equal(again.queries, shape.queries) and np.array_equal(again.sharp_groups, shape.sharp_groups)
    with pytest.raises(InputError, match="x: not a prepared shape"):
        Prepared.from_bytes(shape.to_bytes()[:-20], "x")


def test_prepare_resumes_and_refuses(meshes: Path, shards: Path) -> None:
    options = PrepareOptions(counts=COUNTS, layers=2, workers=1, shard_size=2)
    with pytest.raises(InputError, match="--resume"):
        prepare_files([meshes], shards, options)
    first = (shards / "shapes-00000.tar").read_bytes()
    (shards / "shapes-00001.tar").unlink()
    resumed = PrepareOptions(counts=COUNTS, layers=2, workers=1, shard_size=2, resume=True)
    summary = prepare_files([meshes], shards, resumed)
    assert (summary.done, summary.skipped) == (2, 2) and len(summary.failures) == 1
    assert (shards / "shapes-00000.tar").read_bytes() == first
    with pytest.raises(InputError, match="other options"):
        prepare_files([meshes], shards, PrepareOptions(counts=COUNTS, layers=1, workers=1, shard_size=2, resume=True))
    manifest = json.loads((shards / MANIFEST).read_text())
    assert manifest["sign"] == "negative inside" and manifest["remesh"]["epsilon_cells"] == 2
    assert json.loads((shards / "report.json").read_text())["failures"][0]["name"] == "broken.obj"


def test_shards_as_data(shards: Path) -> None:
    modality = tokkit.build("modality", "mesh", points=128, layers=2)
    source = tokkit.build("data", "mesh_shards", path=str(shards), queries=50).open(modality)
    assert len(source) == 2 and sorted(source.sample(i).name for i in range(2)) == ["below/ball.stl", "box.obj"]
    example = source[0]
    assert isinstance(example, FieldBatch) and [tuple(part.shape) for part in example] == [(7, 128), (50, 3), (50, 2)]
    assert torch.equal(source[0].queries, example.queries) and torch.equal(source.draw(0, 3).inputs, source.draw(0, 3).inputs)
    assert not torch.equal(source.draw(0, 3).inputs, source.draw(0, 4).inputs)
    batch = next(batches(source, batch_size=2))
    assert isinstance(batch, FieldBatch) and batch.inputs.shape == (2, 7, 128)
    sample = source.sample(0)
    assert torch.equal(modality.network_input(sample), sample.values)
    for options, message in (({"layers": 1}, "layers=2"), ({"layers": 2, "fit": "box"}, "fit=cube")):
        with pytest.raises(InputError, match=message):
            tokkit.build("data", "mesh_shards", path=str(shards)).open(tokkit.build("modality", "mesh", **options))
    many = tokkit.build("modality", "mesh", points=5000, layers=2)
    with pytest.raises(InputError, match="prepared with --surface 200"):
        tokkit.build("data", "mesh_shards", path=str(shards)).open(many)[0]
    with pytest.raises(InputError, match="tokkit prepare"):
        tokkit.build("data", "mesh_shards", path=str(shards / "none")).open(modality)
    with pytest.raises(InputError, match="modality is image"):
        tokkit.build("data", "mesh_shards", path=str(shards)).open(tokkit.build("modality", "image"))


def test_prepared_shapes_to_tokens(shards: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tok = Tokenizer(
        modality=tokkit.build("modality", "mesh", points=64, layers=2),
        encoder=tokkit.build("encoder", "voxels", cells=2, downsamplings=1, channels=7, features=8, width=16, depth=1, heads=2),
        quantizer=tokkit.build("quantizer", "fsq", levels=(4, 4), groups=2),
        decoder=tokkit.build("decoder", "volume", layers=2, upsamplings=1, features=8, width=16, depth=1, heads=2, hidden=16),
    ).eval()
    summary = encode_prepared(tok, shards, tmp_path / "tokens", EncodeOptions(batch_size=2))
    assert (summary.done, summary.skipped, summary.payload_bits) == (2, 0, 2 * 8 * 8)
    tokens = tokkit.Tokens.load(tmp_path / "tokens" / "shard-00000.tok")
    source = tokkit.build("data", "mesh_shards", path=str(shards)).open(tok.modality)
    expected = tok.encode([source.sample(index) for index in range(2)])
    assert torch.equal(tokens.codes, expected.codes) and tokens.extras == expected.extras and set(tokens.names) == set(expected.names)
    with pytest.raises(InputError, match="--force"):
        encode_prepared(tok, shards, tmp_path / "tokens", EncodeOptions())
    with pytest.raises(InputError, match="have no order"):
        encode_prepared(tok, shards, tmp_path / "tokens", EncodeOptions(force=True, num_tokens=1))
    assert encode_prepared(tok, shards, tmp_path / "tokens", EncodeOptions(resume=True)).skipped == 2
    with pytest.raises(InputError, match="layers=2"):
        other = Tokenizer(modality="mesh", encoder=tok.encoder, quantizer=tok.quantizer, decoder=tok.decoder)
        encode_prepared(other, shards, tmp_path / "other", EncodeOptions())
    (home := tmp_path / "measured").mkdir()
    rates = measure_encode(tok, shards, EncodeOptions(batch_size=2), runs=1, out=home)
    assert not list(home.iterdir()) and rates.storage == file_system(tmp_path) == file_system(home / "not" / "there")
    assert rates.files == 2 and min(rates.network + rates.end_to_end) > 0


def test_turned_examples_are_the_same_shape() -> None:
    """A box 1 x 2 x 3: whatever the turn, the distance of every query to the turned box is the stored one."""
    shape = Prepared.of(Solid.of(np.asarray(creation.box(extents=(1, 2, 3)).triangles), fill=0.95), COUNTS, layers=1)
    modality = tokkit.build("modality", "mesh", points=100)
    sides = set()
    for seed in range(12):
        inputs, queries, targets = shape.example(modality, 120, np.random.default_rng(seed), turn=True)
        half = inputs[:3].abs().max(1).values
        sides.add(tuple(half.round(decimals=1).tolist()))
        outside = queries.abs() - half
        expected = outside.clamp(min=0).norm(dim=1) + outside.max(1).values.clamp(max=0)
        assert (expected - targets[:, 0]).abs().max() < 0.03
        assert ((inputs[:3] / half[:, None] * inputs[3:6]).sum(0) > 0.9).all(), "normals turn along"
    assert len(sides) > 3


def test_warped_examples_are_shapes_too() -> None:
    warp = Warp.drawn(np.random.default_rng(1), 0.6)
    along = np.linspace(-0.95, 0.95, 2001)[:, None].repeat(3, 1)
    moved, slopes = warp(along)
    np.testing.assert_allclose(moved[[0, -1]], along[[0, -1]], atol=1e-6)
    np.testing.assert_allclose(np.gradient(moved, along[:, 0], axis=0)[1:-1], slopes[1:-1], atol=2e-3)
    assert slopes.min() >= 0.4 and slopes.max() <= 1.6 and np.ptp(slopes) > 0.1
    outside = np.array([[-1.0, 0.99, 1.0]])
    np.testing.assert_allclose(warp(outside)[0], outside, atol=1e-6)
    plain = tokkit.build("modality", "mesh", points=100)
    ball = Prepared.of(Solid.of(np.asarray(creation.icosphere(4).triangles), fill=0.95), COUNTS, layers=1)
    before = ball.example(plain, 120, np.random.default_rng(5))
    after = ball.example(plain, 120, np.random.default_rng(5), warp=0.4)
    assert torch.equal(before.targets < 0, after.targets < 0) and (before.queries - after.queries).abs().max() > 0.02
    assert (after.targets / before.targets - 1).abs().max() < 0.4
    drawn = np.random.default_rng(5)
    ball.rows(100, drawn), drawn.permutation(len(ball.queries))
    _, slopes = Warp.drawn(drawn, 0.4)(before.inputs[:3].T.double().numpy())
    gradient = before.inputs[3:6].T.numpy() / slopes
    np.testing.assert_allclose(after.inputs[3:6].T, gradient / np.linalg.norm(gradient, axis=1, keepdims=True), atol=1e-4)


def test_command_line(meshes: Path, tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(prepare_command)
    counts = ["--surface", "50", "--sharp", "20", "--near", "20", "--volume", "10"]
    asked = [str(meshes), "-o", str(tmp_path / "out"), *counts, "--workers", "1"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 1 and "2 shapes" in result.stdout and "broken.obj" in result.output


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_load(path: Path) -> None:
    recipe = Recipe.load(path)
    assert recipe.modality.name == "mesh" and recipe.train is not None  # type: ignore[attr-defined]


def test_payloads_and_files_of_the_recipes(tmp_path: Path) -> None:
    payloads = {"smoke": 64, "vat-512B": 512, "vat-4KB": 4096, "vecset-vq": 768, "voxels-512B": 486}
    payloads |= {"voxels-binary": 486, "voxels-rvq": 486, "nested-512B": 512}
    trained = {"vat-512B-10min": 486, "vat-256B-10min": 243, "vat-4KB-10min": 4096}
    for path, size in [*((RECIPES / name, size) for name, size in payloads.items()), *((TRAINED / name, s) for name, s in trained.items())]:
        recipe = Recipe.load(path.with_suffix(".yaml"))
        quantizer, options = recipe.quantizer.build(), recipe.encoder.options  # type: ignore[attr-defined]
        grid = () if "num_tokens" in options else (options["cells"],) * 3
        positions = quantizer.num_codes(options["num_tokens"] if "num_tokens" in options else options["cells"] ** 3)
        assert positions * quantizer.bits_per_token == 8 * size, path
        codes = torch.zeros(1, positions, len(quantizer.codebook_sizes), dtype=torch.int64)
        file = tmp_path / f"{path.name}.tok"
        tokkit.Tokens(
            codes=codes, codebook_sizes=quantizer.codebook_sizes, grid=grid, modality="mesh", tokenizer=recipe.name, fingerprint="0" * 32,
            sizes=((),), names=("mesh_00000",), extra_fields=Mesh.extra_fields, extras=((1.0,) * 6,),
        ).save(file)  # fmt: skip
        assert file.stat().st_size <= size + 128, path


def test_smoke_from_recipe_to_mesh(tmp_path: Path) -> None:
    recipe = Recipe.load(RECIPES / "smoke.yaml", ["train.log_every=10", "data.count=8"])
    folder = train(recipe, tmp_path / "run", cpu=True)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["tsdf"] for line in lines if "tsdf" in line]
    assert losses[-1] < 0.9 * losses[0] and any("val/iou_queries" in line for line in lines)
    tok = Tokenizer.from_pretrained(folder)
    decoded = tok.decode_each(tok.encode(creation.box(extents=(1, 1, 1))))[0]
    assert decoded.shape[0] == 9


@pytest.mark.parametrize("name", ["voxels-512B", "voxels-binary", "voxels-rvq", "nested-512B", "vat-512B"])
def test_every_quantizer_trains_on_shapes_and_its_tokens_come_back(name: str, tmp_path: Path) -> None:
    """The recipe's quantizer as it is, with small networks around it."""
    options = ["modality.points=64", "modality.resolution=16", "data={name: primitives, count: 4, queries: 64}", "evaluate.limit=2"]
    options += ["train.steps=4", "train.batch_size=4", "train.workers=0", "train.precision=fp32", "train.compile=false", "train.warmup=1"]
    networks = {"encoder": ["depth=2", "width=16", "heads=2"], "decoder": ["depth=1", "width=16", "heads=2", "features=8"]}
    networks["encoder"] += ["cells=2", "features=8"] if name.startswith("voxels") else ["num_tokens=16"]
    networks["decoder"] += [] if name.startswith("voxels") else ["cells=4", "num_tokens=16", "upsamplings=1"]
    options += [f"{part}.{option}" for part, chosen in networks.items() for option in chosen]
    options += {"nested-512B": ["quantizer.num_tokens=16"], "vat-512B": ["quantizer.scales=[1, 4, 16]", "quantizer.num_latents=16"]}.get(
        name, []
    )
    folder = train(Recipe.load(RECIPES / f"{name}.yaml", options), tmp_path / "run", cpu=True)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(lines[-2]["loss"]) and lines[-2]["gradient_norm"] > 0
    tok = Tokenizer.from_pretrained(folder)
    tokens = tok.encode(creation.icosphere(1))
    tokens.save(tmp_path / "x.tok")
    assert (tmp_path / "x.tok").stat().st_size <= tokens.payload_bits / 8 + 128
    loaded = tokkit.Tokens.load(tmp_path / "x.tok")
    assert torch.equal(loaded.codes, tokens.codes) and torch.equal(tok.decode_each(loaded)[0], tok.decode_each(tokens)[0])
    shorter = {"voxels-rvq": {"levels": 1}, "nested-512B": {"num_tokens": 5}, "vat-512B": {"num_tokens": 5}}.get(name)
    if shorter is not None:
        prefix = tok.encode(creation.icosphere(1), **shorter)  # type: ignore[arg-type]
        assert prefix.payload_bits < tokens.payload_bits and tok.decode_each(prefix)[0].shape[0] == 9
