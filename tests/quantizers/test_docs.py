"""The python of the documentation runs, and the quantizer it adds passes the contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import test_quantizers as contract
from tokkit import registry

DOCS = Path(__file__).parents[2] / "docs"


def blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def signmag() -> Iterator[None]:
    namespace = {"__name__": "docs_add_a_quantizer"}
    for block in blocks("add-a-quantizer.md"):
        exec(compile(block, "docs/add-a-quantizer.md", "exec", dont_inherit=True), namespace)
    yield
    del registry._classes["quantizer", "signmag"]


def test_quantizers_page_runs() -> None:
    assert len(blocks("quantizers.md")) == 1
    exec(compile(blocks("quantizers.md")[0], "docs/quantizers.md", "exec", dont_inherit=True), {})


def test_quantizers_page_names_every_quantizer() -> None:
    named = set(re.findall(r"^\| `([\w.]+)` \|| \| `(vqp\.\w+)` \|", (DOCS / "quantizers.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert {first or second for first, second in named} == set(registry.names("quantizer"))


def test_the_added_quantizer_meets_the_contract(signmag: None) -> None:
    assert "signmag" in registry.names("quantizer")
    contract.test_lookup_of_the_codes_is_the_latents("signmag")
    contract.test_codes_are_in_range("signmag")
    contract.test_gradient_reaches_the_input("signmag")
    contract.test_terms_are_detached_scalars("signmag")
    contract.test_bfloat16_and_autocast("signmag")
    contract.test_empty_batch("signmag", True, 0, 7)
    contract.test_same_codes_at_any_batch_size("signmag")
    contract.test_same_result_after_save_and_load("signmag")
    contract.test_wrong_shapes_are_refused("signmag")
