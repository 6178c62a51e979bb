"""LPIPS against the lpips package, with made-up weights in the published files' form (the published ones need a download)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lpips
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import vgg

import tokkit
from tokkit import weights
from tokkit.errors import InputError
from tokkit.metrics.base import MetricFailure


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """torchvision's AlexNet with random weights, saved under the published name."""
    root = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(torchvision.models.alexnet().state_dict(), root / weights.LPIPS_FILES["alex"])
    yield root


def test_equals_the_lpips_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = torchvision.models.alexnet()
    backbone.load_state_dict(torch.load(folder / weights.LPIPS_FILES["alex"], weights_only=True))
    monkeypatch.setattr(torchvision.models, "alexnet", lambda pretrained: backbone)
    theirs = lpips.LPIPS(net="alex", verbose=False)
    monkeypatch.undo()
    before = torch.get_rng_state()
    ours = tokkit.build("metric", "lpips_alex", weights=str(folder))
    assert torch.equal(before, torch.get_rng_state()), "building it must not move the global generator"
    a, b = torch.rand(3, 64, 50), torch.rand(3, 64, 50)
    with torch.no_grad():
        expected = theirs(a[None] * 2 - 1, b[None] * 2 - 1).item()
    assert ours(a, b) == pytest.approx(expected, rel=1e-5) and expected > 0
    assert ours(a, a) == 0
    again = tokkit.build("metric", "lpips_alex", weights=str(folder / weights.LPIPS_FILES["alex"]))
    assert again(a, b) == ours(a, b)


def test_too_small_or_grey(folder: Path) -> None:
    metric = tokkit.build("metric", "lpips_alex", weights=str(folder))
    assert metric(torch.rand(3, 31, 31), torch.rand(3, 31, 31)) > 0
    for shape in ((3, 30, 64), (1, 64, 64)):
        with pytest.raises(MetricFailure, match="needs 3 channels and 31 pixels"):
            metric(torch.rand(shape), torch.rand(shape))


def test_vgg_layers_are_found(tmp_path: Path) -> None:
    """The trunk is assembled from torchvision's numbering: give every layer a value of its own and look for it."""
    layers = {
        f"features.{index}.{name}": torch.full_like(value, float(index))
        for index, layer in enumerate(vgg.make_layers(vgg.cfgs["D"]))
        if isinstance(layer, nn.Conv2d)
        for name, value in layer.state_dict().items()
    }
    torch.save(layers, tmp_path / weights.LPIPS_FILES["vgg"])
    network = weights.lpips_network("vgg", path=str(tmp_path))
    convolutions = [layer for layer in network.net.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.bias[0].item() for layer in convolutions] == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert not any(parameter.requires_grad for parameter in network.parameters()) and not network.training


def test_missing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"weights vgg16-397923af\.pth: no such file: .*vgg16-397923af\.pth"):
        tokkit.build("metric", "lpips_vgg", weights=str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(weights, "_TORCHVISION", "http://127.0.0.1:9/models/")
    target = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    with pytest.raises(InputError, match=rf"vgg16-397923af\.pth are not there and http://.* put it at {target} or give its path"):
        tokkit.build("metric", "lpips_vgg")
    with pytest.raises(InputError, match=r"weights own\.bin are not there: put it at"):
        weights.find_weights("own.bin")
    (target.parent / "own.bin").parent.mkdir(parents=True, exist_ok=True)
    (target.parent / "own.bin").write_bytes(b"x")
    assert weights.find_weights("own.bin") == target.parent / "own.bin"


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_a_file_that_holds_something_else(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / weights.LPIPS_FILES["alex"]
    if content is None:
        torch.save({"other": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"alexnet-owt-7be5be79\.pth does not hold torchvision's weights"):
        tokkit.build("metric", "lpips_alex", weights=str(tmp_path))


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an address that answers: into torch.hub's folder, checked by its hash."""
    served = tmp_path / "small-2d711642.pth"  # sha256 of b"x" begins with 2d711642
    served.write_bytes(b"x")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert weights.find_weights(served.name, url_hint=served.as_uri()).read_bytes() == b"x"
    wrong = served.rename(tmp_path / "small-00000000.pth")
    with pytest.raises(InputError, match="invalid hash"):
        weights.find_weights(wrong.name, url_hint=wrong.as_uri())
    assert [path.name for path in (tmp_path / "hub" / "checkpoints").iterdir()] == [served.name]
