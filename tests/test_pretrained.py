"""The tokenizers that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import skimage.data
import torch
from typer.testing import CliRunner

import tokkit
from tests.small import tokenizer
from tokkit import pretrained, registry
from tokkit.cli.main import app
from tokkit.errors import InputError


def test_every_one_has_what_list_and_loading_need() -> None:
    assert "tiny-image" in pretrained.names()
    for name in pretrained.names():
        folder = pretrained.resolve(name)
        assert (folder / "README.md").read_text(encoding="utf-8").startswith("# ")
        assert sum(path.stat().st_size for path in folder.iterdir()) < 3e6, "a package is no model hub"
        assert tokkit.Tokenizer.from_pretrained(name).name == name


def test_tiny_image_gives_a_picture_back_that_it_has_not_seen() -> None:
    picture = torch.from_numpy(skimage.data.chelsea()[:200, 100:317].copy()).permute(2, 0, 1)[None] / 255
    tok = tokkit.Tokenizer.from_pretrained("tiny-image")
    psnr = registry.build("metric", "psnr")
    found = []
    for levels in (1, 2):
        tokens = tok.encode(picture, levels=levels)
        assert tokens.payload_bits == 50 * 55 * 8 * levels
        found.append(float(psnr(picture[0], tok.decode(tokens)[0])))
    assert found[1] > 29 and found[1] > found[0] + 2 > 24


def test_a_folder_of_that_name_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tokenizer()
    mine.save("tiny-image")
    assert tokkit.Tokenizer.from_pretrained("tiny-image").fingerprint == mine.fingerprint


def test_the_command_line_takes_the_name() -> None:
    shown = CliRunner().invoke(app, ["inspect", "tiny-image"])
    assert shown.exit_code == 0 and "256" in shown.output
    listed = CliRunner().invoke(app, ["list", "pretrained"])
    assert "tiny-image" in listed.output and "1 bit/pixel" in listed.output


def test_another_name_is_told_what_there_is() -> None:
    with pytest.raises(InputError, match=r"no tokenizer here.*or tiny-image"):
        tokkit.Tokenizer.from_pretrained("tiny-imge")
