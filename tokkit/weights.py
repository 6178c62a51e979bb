"""Finds weights that only a download gives, such as the backbones of perceptual losses and metrics.

Random weights are never put in their place.
"""

from __future__ import annotations

import http.client
import pickle
import urllib.request
import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from tokkit.errors import InputError

LPIPS_FILES = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}
"""Backbone of LPIPS -> torchvision's file of its ImageNet weights."""

_TORCHVISION = "https://download.pytorch.org/models/"
_CONNECT_SECONDS = 10.0


def find_weights(filename: str, *, path: str | None = None, url_hint: str | None = None) -> Path:
    """A weights file: where the user says it is, else in torch.hub's folder, else downloaded to there.

    Args:
        filename: as torch.hub stores it, such as "vgg16-397923af.pth"; after a download the part behind the dash is
            checked as its hash.
        path: the file, or a folder that holds `filename`; nothing else is tried when it is given.
        url_hint: the address to download from; None for weights that cannot be downloaded.

    Raises:
        InputError: the file is not there and cannot be downloaded; the message says where to put it.
    """
    if path is not None:
        given = Path(path).expanduser()
        found = given / filename if given.is_dir() else given
        if not found.is_file():
            raise InputError(f"weights {filename}: no such file: {found}")
        return found
    found = Path(torch.hub.get_dir()) / "checkpoints" / filename
    if not found.is_file():
        _download(filename, found, url_hint)
    return found


def lpips_network(backbone: Literal["vgg", "alex"], *, path: str | None = None) -> nn.Module:
    """The network of the lpips package (v0.1), frozen, in eval mode, on the CPU.

    It takes pictures [B, 3, H, W] in [-1, 1], or in [0, 1] when called with `normalize=True`.

    Args:
        backbone: "vgg" is the one to train with, "alex" the one of most tables.
        path: the backbone's torchvision file or its folder, where it is not in torch.hub's.

    Raises:
        InputError: the backbone's weights are not there, or the file holds something else.
    """
    filename = LPIPS_FILES[backbone]
    file = find_weights(filename, path=path, url_hint=_TORCHVISION + filename)
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # lpips calls torchvision with its deprecated `pretrained`
        network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        for part in network.net.children():
            for index, layer in part.named_children():
                layer.load_state_dict({name: state[f"features.{index}.{name}"] for name in layer.state_dict()})
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(f"{file} does not hold torchvision's weights {filename}") from error
    return network.requires_grad_(False).eval()


def _download(filename: str, target: Path, url: str | None) -> None:
    where = f"put it at {target} or give its path"
    if url is None:
        raise InputError(f"weights {filename} are not there: {where}")
    _, dash, digest = Path(filename).stem.rpartition("-")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # torch.hub sets no time limit of its own: a network that answers nothing must not hang the run.
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_CONNECT_SECONDS):
            pass
        torch.hub.download_url_to_file(url, str(target), hash_prefix=digest if dash else None, progress=False)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise InputError(f"weights {filename} are not there and {url} does not load ({error}): {where}") from error
