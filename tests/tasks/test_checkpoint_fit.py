"""Weights of another architecture are refused."""

from pathlib import Path

import pytest
import torch

from backbones import UserError
from tasks.checkpoint_fit import load_weights_strictly


def test_strict_loading_names_the_differences() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    state = {**model.state_dict(), "2.weight": torch.zeros(1), "0.bias": torch.zeros(9)}
    del state["1.bias"]
    with pytest.raises(UserError, match=r"1 missing \(such as 1.bias\), 1 unexpected .*2.weight\), 1 of another shape"):
        load_weights_strictly(model, state, Path("run"))
