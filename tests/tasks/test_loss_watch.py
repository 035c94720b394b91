"""Means for the log, and what happens to a loss that is not finite."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from backbones import UserError
from heads import BoxTargets, ImageSizes, Targets
from tasks.data.sample import Batch
from tasks.loss_watch import LossWatch


def batch(name: str) -> Batch:
    size = torch.tensor([[4, 6]])
    boxes = BoxTargets(torch.ones(1, 1, 4), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1) > 0, size[:, 0] > 0)
    images = torch.full((1, 3, 4, 6), 7, dtype=torch.uint8)
    return Batch(images, ImageSizes((4, 6), size, size), Targets(torch.tensor([1]), boxes), (1,), (name,))


def test_means_go_on_where_a_save_left_them(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(10, 2, 2, generator=generator)
    whole, parts = LossWatch(tmp_path), LossWatch(tmp_path)
    for step, passes in enumerate(values):
        if step == 6:
            saved = {name: parts.tensors()[name].clone() for name in reversed(parts.tensors())}
            parts = LossWatch(tmp_path, saved)
        for watch in (whole, parts):
            for a, b in passes:
                watch.add({"z": a, "b": b})
            watch.check_step(step, [batch("x")])
    found = whole.means()
    assert list(found) == ["z", "b"]
    assert found == pytest.approx(dict(zip("zb", values.sum(1).mean(0).tolist(), strict=True)))
    resumed = parts.means()
    assert (list(resumed), resumed) == (["z", "b"], found)
    assert whole.tensors()["steps"] == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_finite(value: float, tmp_path: Path) -> None:
    watch = LossWatch(tmp_path)
    watch.add({"boxes/good": torch.tensor(1.0), "boxes/bad": torch.tensor(0.5)})
    watch.check_step(0, [batch("fine.png")])
    watch.add({"boxes/good": torch.tensor(1.0), "boxes/bad": torch.tensor(value)})
    with pytest.raises(UserError, match=r"^boxes/bad is not finite at step 1; .*first\.png, second\.png") as caught:
        watch.check_step(1, [batch("first.png"), batch("second.png")])
    assert "\n" not in str(caught.value)
    folder = tmp_path / "nonfinite_step_00000001"
    told = json.loads((folder / "step.json").read_text())
    assert told == {"step": 1, "files": ["first.png", "second.png"], "losses": ["boxes/bad"]}
    saved = load_file(folder / "1.safetensors")
    assert torch.equal(saved["images"], batch("x").images)
    assert torch.equal(saved["boxes"], torch.ones(1, 1, 4))


def test_losses_that_cancel_out_are_still_seen(tmp_path: Path) -> None:
    """Their sum would be NaN; each is looked at by itself."""
    watch = LossWatch(tmp_path)
    watch.add({"a": torch.tensor(float("inf")), "b": torch.tensor(-float("inf"))})
    with pytest.raises(UserError, match="a, b is not finite"):
        watch.check_step(0, [batch("x")])
