"""Encoders and decoders as programs of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import tokkit
from tests.small import tokenizer
from tokkit import registry
from tokkit.errors import InputError
from tokkit.export import export

ORDERED = {"num_tokens": 4, "patch": 4, "width": 16, "depth": 1, "heads": 2}
PARTS: dict[str, tuple[str, dict[str, Any], dict[str, Any], tuple[int, ...]]] = {
    "levels in a map of weights": ("dac", {"width": 16, "strides": (2, 4)}, {"name": "rvq", "dim": 64, "levels": 3, "code_dim": 4}, (64,)),
    "levels looked up together": ("vit", {}, {"name": "rvq", "dim": 8, "levels": 3}, (16, 24)),
    "signs": ("causal3d", {}, {"name": "binary", "bits": 16}, (5, 16, 16)),
    "ordered tokens": ("vit1d", ORDERED, {"name": "nested", "num_tokens": 4}, (8, 12)),
}


def build(case: str) -> tuple[tokkit.Tokenizer, tuple[int, ...]]:
    network, options, chosen, size = PARTS[case]
    encoder, decoder = (
        tokkit.build(kind, network, **(options or registry.get(kind, network).example_options()))  # type: ignore[attr-defined]
        for kind in ("encoder", "decoder")
    )
    torch.manual_seed(0)
    name = chosen["name"]
    more = {"quantizer": tokkit.build("quantizer", "vq", dim=8, codebook_size=16)} if name == "nested" else {}
    more |= {"codebook_size": 16} if name == "rvq" else {}
    quantizer = tokkit.build("quantizer", name, **{key: value for key, value in chosen.items() if key != "name"}, **more)
    modality = tokkit.build("modality", "audio", sample_rate=8000) if len(size) == 1 else ("image", "video")[len(size) - 2]
    return tokkit.Tokenizer(modality=modality, encoder=encoder, quantizer=quantizer, decoder=decoder).eval(), size


@pytest.mark.parametrize("case", PARTS)
def test_the_program_gives_the_codes_and_values_of_the_tokenizer(case: str, tmp_path: Path) -> None:
    tok, size = build(case)
    before = {key: value.clone() for key, value in tok.state_dict().items()}
    described = export(tok, tmp_path, size=size)
    assert described["encoder"] == {"file": "encoder.pt2", "checked": True, "other_codes": 0}
    assert json.loads((tmp_path / "export.json").read_text()) == described and described["fingerprint"] == tok.fingerprint
    values = tok.modality.denormalize(2 * torch.rand(4, tok.encoder.channels, *size) - 1)
    tokens = tok.encode(values)
    codes = torch.export.load(tmp_path / "encoder.pt2").module()(values)
    assert torch.equal(codes, tokens.codes) and list(tokens.grid) == described["grid"]
    torch.testing.assert_close(torch.export.load(tmp_path / "decoder.pt2").module()(codes), tok.decode(tokens), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in tok.state_dict().items()), "the tokenizer is as it was"


def test_a_program_runs_where_tokkit_is_not(tmp_path: Path) -> None:
    tok, size = build("levels in a map of weights")
    export(tok, tmp_path, size=size, parts=["encoder"])
    values = torch.rand(2, 1, *size) - 0.5
    torch.save(values, tmp_path / "values.pt")
    code = (
        "import sys, torch; sys.modules['tokkit'] = None; "
        "print(torch.export.load('encoder.pt2').module()(torch.load('values.pt')).flatten().tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == tok.encode(values).codes.flatten().tolist() and not (tmp_path / "decoder.pt2").exists()


def test_onnx(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    runtime = pytest.importorskip("onnxruntime")
    tok, size = build("levels in a map of weights")
    described = export(tok, tmp_path, size=size, format="onnx")
    assert described["encoder"]["other_codes"] == 0 and described["decoder"]["mean_difference"] < 1e-5
    session = runtime.InferenceSession(str(tmp_path / "encoder.onnx"))
    values = torch.rand(5, 1, *size) - 0.5
    (codes,) = session.run(None, {session.get_inputs()[0].name: values.numpy()})
    assert torch.equal(torch.from_numpy(codes), tok.encode(values).codes)


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    tok = tokenizer()
    with pytest.raises(InputError, match="size=15x16 is padded to 16x16 in encoding; export that"):
        export(tok, tmp_path, size=(15, 16))
    for size in ((16,), (0, 16)):
        with pytest.raises(InputError, match="must be 2 positive numbers"):
            export(tok, tmp_path, size=size)
    tok.precision = "bf16"
    with pytest.raises(InputError, match="in fp32, got cpu and bf16"):
        export(tok, tmp_path, size=(16, 16))
    assert not list(tmp_path.iterdir())
    (tmp_path / "encoder.pt2").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        export(tokenizer(), tmp_path, size=(16, 16))
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.pt2"]


def test_a_program_that_does_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(x: torch.Tensor, codebook: torch.Tensor, metric: str, backend: str, precision: str) -> torch.Tensor:
        return (x.double() @ codebook.double().T).argmin(1)

    monkeypatch.setattr("tokkit.export._lookup", wrong)
    tok, size = build("levels in a map of weights")
    with pytest.raises(InputError, match="gives other codes"):
        export(tok, tmp_path, size=size)
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tokkit", "export", "tiny-image", "-o", str(tmp_path), "--size"]
    done = subprocess.run([*command, "64x32", "--part", "encoder"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "encoder.pt2: 100.00% of the tokenizer's codes" in done.stdout, done.stderr
    assert subprocess.run([*command, "64by32"], capture_output=True, text=True, check=False).returncode == 2
