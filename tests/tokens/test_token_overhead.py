"""Bytes beside codes, names and extra numbers: the limits of the design, and the table of docs/token-file.md."""

import re
from pathlib import Path

import pytest
from token_cases import make_tokens

from tokkit.tokens import TokenWriter

CASES = {
    "image": {"codebook_sizes": (2**16,), "grid": (32, 32), "size": (512, 512)},
    "binary-128": {"codebook_sizes": (256,) * 16, "grid": (32, 32), "size": (512, 512)},
    "video": {"codebook_sizes": (64_000,), "grid": (17, 32, 32), "size": (65, 256, 256), "modality": "video"},
    "audio": {
        "codebook_sizes": (1024,) * 8,
        "grid": (270_000,),
        "size": (86_400_000,),
        "modality": "audio",
        "sample_rate": 24_000,
    },
    "mesh": {"codebook_sizes": (2**14,), "grid": (), "positions": 1024, "size": (), "modality": "mesh"},
    "prefix": {"codebook_sizes": (4096,), "grid": (256,), "positions": 32, "size": (2048, 2048)},
    "widest": {"codebook_sizes": tuple(2**62 - i for i in range(4)), "grid": (64, 64), "size": (4096, 4096)},
}
PAGE = Path(__file__).parents[2] / "docs" / "token-file.md"


def overhead(tmp_path, count, size, name="n" * 20, **options):
    tokens = make_tokens(1, sizes=(size,), names=(name,), tokenizer="t" * 12, **options)
    path = tmp_path / f"{count}.tok"
    with TokenWriter(path, tokens.header) as writer:
        for _ in range(count):
            writer.append(tokens)
    return path.stat().st_size - count * (len(name) + (tokens.payload_bits + 7) // 8) - len(tokens.tokenizer)


@pytest.mark.parametrize("case", CASES)
def test_overhead(case, tmp_path):
    file = overhead(tmp_path, 0, **CASES[case])
    one = overhead(tmp_path, 1, **CASES[case])
    three = overhead(tmp_path, 3, **CASES[case])
    assert one <= 128
    assert three - one == 2 * (one - file)
    assert one - file <= 24
    row = re.search(rf"^\| `{case}` .*\| (\d+) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    assert row and (int(row[1]), int(row[2])) == (file, one - file)
