"""l1, l2, ssim and lpips: values by hand or from the library, gradients, and what they refuse."""

from __future__ import annotations

import math
import urllib.error
from pathlib import Path
from typing import Any

import lpips
import pytest
import torch
from torch import nn
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from tokkit import registry
from tokkit.errors import InputError

ALEX = "alexnet-owt-7be5be79.pth"


def test_l1_and_l2_by_hand() -> None:
    target = torch.tensor([0.0, 1.0, -1.0, 0.5])
    reconstruction = torch.tensor([0.5, 1.0, 1.0, 0.0])
    assert registry.build("loss", "l1")(target, reconstruction).item() == pytest.approx((0.5 + 0 + 2 + 0.5) / 4)
    assert registry.build("loss", "l2")(target, reconstruction).item() == pytest.approx((0.25 + 0 + 4 + 0.25) / 4)


def test_psnr_is_the_mean_of_the_metric_with_the_sign_changed() -> None:
    target = torch.zeros(2, 3, 4, 4)
    reconstruction = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.02)])
    by_hand = -(10 * math.log10(4 / 0.04) + 10 * math.log10(4 / 0.0004)) / 2
    assert registry.build("loss", "psnr", limit=200.0)(target, reconstruction).item() == pytest.approx(by_hand, abs=1e-4)
    assert registry.build("loss", "psnr", limit=30.0)(target, target).item() == pytest.approx(-30)
    metric = PeakSignalNoiseRatio(data_range=2.0, reduction="elementwise_mean", dim=(1, 2, 3))
    noisy = torch.rand(3, 3, 8, 8) - 0.5
    ours = registry.build("loss", "psnr", limit=200.0)(torch.zeros_like(noisy), noisy)
    assert -ours.item() == pytest.approx(metric(noisy, torch.zeros_like(noisy)).item(), abs=1e-4)


def test_psnr_gives_a_smooth_sample_the_say_of_a_hard_one() -> None:
    reconstruction = torch.stack([torch.full((3, 4, 4), 0.5), torch.full((3, 4, 4), 0.05)]).requires_grad_()
    registry.build("loss", "psnr", limit=200.0)(torch.zeros_like(reconstruction), reconstruction).backward()
    assert reconstruction.grad is not None
    hard, smooth = reconstruction.grad.flatten(1).norm(dim=1)
    assert smooth.item() == pytest.approx(10 * hard.item(), rel=1e-4)  # a decibel of it takes a tenth of the change


@pytest.mark.parametrize("name", ["l1", "l2", "ssim"])
def test_a_perfect_reconstruction_costs_nothing_and_bf16_counts_in_fp32(name: str) -> None:
    loss = registry.build("loss", name, weight=0.25)
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    assert loss.weight == 0.25
    assert loss(pictures, pictures).item() == pytest.approx(0, abs=1e-6)
    assert loss(pictures.bfloat16(), pictures.bfloat16()).dtype == torch.float32


def test_ssim_is_one_minus_the_metric_on_zero_to_one() -> None:
    target = torch.rand(2, 3, 24, 24)
    reconstruction = (target + 0.1 * torch.randn_like(target)).clamp(0, 1)
    expected = 1 - StructuralSimilarityIndexMeasure(data_range=1.0)(reconstruction, target)
    assert registry.build("loss", "ssim")(target * 2 - 1, reconstruction * 2 - 1).item() == pytest.approx(expected.item(), abs=1e-5)


def test_ssim_falls_by_descent_and_refuses_small_pictures() -> None:
    loss = registry.build("loss", "ssim")
    target = torch.rand(1, 1, 16, 16) * 2 - 1
    reconstruction = torch.zeros_like(target, requires_grad=True)
    before = loss(target, reconstruction + 0.01 * target)
    (gradient,) = torch.autograd.grad(before, reconstruction)
    assert loss(target, 0.01 * target - gradient / gradient.norm()) < before
    with pytest.raises(InputError, match="at least 11 pixels"):
        loss(torch.zeros(1, 3, 10, 16), torch.zeros(1, 3, 10, 16))


@pytest.fixture(scope="module")
def alex_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file laid out as torchvision's AlexNet weights, with random values: enough to check what is done with them."""
    generator = torch.Generator().manual_seed(0)
    network = lpips.pretrained_networks.alexnet(pretrained=False)
    state = {
        f"features.{index}.{key}": torch.randn(value.shape, generator=generator) * 0.05
        for part in network.children()
        for index, layer in part.named_children()
        for key, value in layer.state_dict().items()
    }
    folder = tmp_path_factory.mktemp("weights")
    torch.save(state, folder / ALEX)
    return folder


def pictures(channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.rand(2, channels, 40, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return target, target.flip(-1)


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")  # the lpips package's own use of torchvision
def test_lpips_is_the_package_s_value_and_never_drops_out(alex_folder: Path) -> None:
    loss = registry.build("loss", "lpips", backbone="alex", weights=str(alex_folder)).train()
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    reference.net.load_state_dict(loss.network.net.state_dict())
    target, reconstruction = pictures()
    value = loss(target, reconstruction)
    assert value.item() == pytest.approx(reference(reconstruction, target).mean().item(), rel=1e-5)
    assert value.item() > 0 and value.item() == loss(target, reconstruction).item()
    assert loss(target, target).item() == pytest.approx(0, abs=1e-6)
    assert loss(*(picture[:, :1] for picture in pictures())) > 0


def test_lpips_gives_a_gradient_to_the_reconstruction_only(alex_folder: Path) -> None:
    loss = registry.build("loss", "lpips", backbone="alex", weights=str(alex_folder / ALEX))
    target, reconstruction = pictures()
    loss(target, reconstruction.requires_grad_()).backward()
    assert reconstruction.grad is not None and reconstruction.grad.any()
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def test_lpips_refuses_other_channels(alex_folder: Path) -> None:
    loss = registry.build("loss", "lpips", backbone="alex", weights=str(alex_folder))
    with pytest.raises(InputError, match="1 or 3"):
        loss(torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 32, 32))


def test_lpips_offline_names_the_file_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=f"vgg16-397923af.pth.*put it at {tmp_path / 'checkpoints' / 'vgg16-397923af.pth'}"):
        registry.build("loss", "lpips")
    with pytest.raises(InputError, match="no such file"):
        registry.build("loss", "lpips", weights=str(tmp_path / "absent.pth"))


@pytest.mark.parametrize("name", ["l1", "l2", "ssim"])
def test_is_a_scalar_with_a_gradient(name: str) -> None:
    layer = nn.Conv2d(3, 3, 1)
    target = torch.rand(2, 3, 16, 16) * 2 - 1
    value = registry.build("loss", name)(target, layer(target))
    value.backward()
    assert value.shape == () and layer.weight.grad is not None and layer.weight.grad.any()
