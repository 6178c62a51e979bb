"""Tokenizers of other libraries, with small random weights on this machine."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from eval_fakes import pictures

from tokkit.errors import InputError
from tokkit.evaluate.adapters import open_system
from tokkit.modalities.base import Sample

HUBCONF = """\
import torch

dependencies = ["torch"]


class Darker(torch.nn.Module):
    def forward(self, batch):
        return batch * 0.5


def darker():
    return Darker()


def number():
    return 3
"""
DAC = {"encoder_hidden_size": 8, "downsampling_ratios": [2, 4], "decoder_hidden_size": 16, "hidden_size": 16, "n_codebooks": 2}
HUBERT = {
    "model_type": "hubert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8, 8),
    "conv_stride": (4, 2),
    "conv_kernel": (4, 2),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
MIMI = {
    "hidden_size": 16,
    "num_filters": 4,
    "upsampling_ratios": [4, 2],
    "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
    "num_quantizers": 3,
    "num_hidden_layers": 1,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "upsample_groups": 16,
}
CODECS = {
    "Dac": (DAC, "1", {"n_quantizers": 1}),
    "Encodec": ({"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "num_lstm_layers": 1}, "24", {"bandwidth": 24.0}),
    "Mimi": (MIMI, "2", {"num_quantizers": 2}),
    "Xcodec": (
        {
            "acoustic_model_config": {**DAC, "model_type": "dac", "upsampling_ratios": [4, 2]},
            "semantic_model_config": HUBERT,
            "target_bandwidths": [8.0, 16.0],
        },
        "8",
        {"bandwidth": 8.0},
    ),
}


@pytest.mark.parametrize("kind", CODECS)
def test_sound_codecs_of_transformers(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    options, rate, chosen = CODECS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(codebook_size=16, **options)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    model.save_pretrained(tmp_path / "codec")
    sound = torch.randn(1, 808, generator=torch.Generator().manual_seed(1)) * 0.1
    system = open_system(f"transformers:{tmp_path / 'codec'}")
    assert system.modality.sample_rate == (16000 if kind == "Xcodec" else config.sampling_rate)
    for named, given in ((system, {}), (open_system(f"transformers:{tmp_path / 'codec'}@{rate}"), chosen)):
        (coded,) = named.code([Sample(sound, "s")])
        with torch.inference_mode():
            expected = model(sound[None], **given)
        length = min(808, expected.audio_values.shape[-1])
        torch.testing.assert_close(coded.values[0, :length], expected.audio_values.reshape(-1)[:length])
        assert coded.values.shape == sound.shape
        bits = math.ceil(math.log2(config.codebook_size)) * expected.audio_codes.numel()
        assert (coded.payload_bits, coded.file_bytes) == (bits, math.ceil(bits / 8))
    with pytest.raises(InputError, match=r"no 1000 kbit/s; there are|no 1000 codebooks; it has 1 to"):
        open_system(f"transformers:{tmp_path / 'codec'}@1000")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("AutoencoderKL", {}), ("VQModel", {"num_vq_embeddings": 20, "vq_embed_dim": 4})],
)
def test_models_of_diffusers(tmp_path: Path, kind: str, options: dict[str, int]) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    model = getattr(diffusers, kind)(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, **blocks, **options)
    model.save_pretrained(tmp_path / "vae")
    samples = pictures(2, size=16)
    coded = open_system(f"diffusers:{tmp_path / 'vae'}").code(samples)
    batch = torch.stack([sample.values for sample in samples])
    with torch.inference_mode():
        expected = model.eval()(batch * 2 - 1).sample
    found = torch.stack([code.values for code in coded])
    torch.testing.assert_close(found, ((expected + 1) / 2).clamp(0, 1))
    assert coded[0].payload_bits == (8 * 8 * 5 if kind == "VQModel" else 0)
    odd = open_system(f"diffusers:{tmp_path / 'vae'}").code([Sample(samples[0].values[:, :13, :15], "odd")])[0]
    assert odd.values.shape == (3, 13, 15), "any size"


def test_names_of_the_hub_are_found_in_this_machines_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--codec"
    vae = repository / "snapshots" / "0123456789" / "vae"
    vae.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123456789")
    for folder in (vae, vae.parent):
        (folder / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", "model_type": "bert"}))
    with pytest.raises(InputError, match="someone/codec/vae: a UNet2DModel; known are AutoencoderKL and VQModel"):
        open_system("diffusers:someone/codec/vae")
    with pytest.raises(InputError, match="someone/codec: a bert; known are dac, encodec, mimi, xcodec"):
        open_system("transformers:someone/codec")
    for named in ("diffusers:someone/else", "transformers:someone/codec/below"):
        with pytest.raises(InputError, match="no such folder, and not a name in this machine's Hugging Face cache"):
            open_system(named)


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model of diffusers here"):
        open_system(f"diffusers:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", "model_type": "bert"}))
    with pytest.raises(InputError, match="a UNet2DModel; known are AutoencoderKL and VQModel"):
        open_system(f"diffusers:{tmp_path}")
    with pytest.raises(InputError, match="a bert; known are dac, encodec, mimi, xcodec"):
        open_system(f"transformers:{tmp_path}")


def test_entry_points_of_torch_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hubconf.py").write_text(HUBCONF)
    (sample,) = pictures(1)
    system = open_system(f"torchhub:{tmp_path}:darker")
    assert system.name == "darker"
    torch.testing.assert_close(system.code([sample])[0].values, sample.values * 0.5)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    shutil.copytree(tmp_path, tmp_path / "hub" / "someone_codec_main", ignore=lambda *_: ["hub"])
    torch.testing.assert_close(open_system("torchhub:someone/codec:darker").code([sample])[0].values, sample.values * 0.5)
    cases: dict[str, Any] = {
        f"torchhub:{tmp_path}:brighter": "brighter",
        f"torchhub:{tmp_path}:number": "number gives a int, not a function of batches",
        "torchhub:someone/else:darker": "no hubconf.py in someone/else, and torch.hub has no copy",
        "torchhub:darker": "write torchhub:owner/repository:entry",
    }
    for named, message in cases.items():
        with pytest.raises(InputError, match=message):
            open_system(named)
