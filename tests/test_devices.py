from __future__ import annotations

import pytest
import torch

from tokkit.devices import Arriving
from tokkit.evaluate.provenance import commit


def test_a_tensor_that_is_here_arrives_as_it_is() -> None:
    values = torch.arange(3)
    assert Arriving(values).wait() is values


@pytest.mark.gpu
def test_arriving_does_not_wait_for_later_work() -> None:
    values = Arriving(torch.arange(5, device="cuda")[::2] * 2)
    torch.cuda._sleep(2_000_000_000)
    assert values.wait().tolist() == [0, 4, 8]
    assert not torch.cuda.current_stream().query(), "the GPU is still at what it was told since"


def test_the_environment_names_the_commit_of_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKKIT_COMMIT", "1234567")
    assert commit() == "1234567"
