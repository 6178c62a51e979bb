import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread(few_threads: None) -> None:
    """These tensors are tiny: a second thread costs more than it brings, and much more on a busy machine."""
    torch.set_num_threads(1)
