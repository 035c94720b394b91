"""Means for the log, and what happens to a loss that is not finite."""

import math

import pytest
import torch

from heads import BoxTargets, ImageSizes, Targets
from tasks.data.sample import Batch
from tasks.loss_watch import LossWatch, NonFiniteStep


def batch(name: str) -> Batch:
    size = torch.tensor([[4, 6]])
    boxes = BoxTargets(torch.ones(1, 1, 4), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1) > 0, size[:, 0] > 0)
    images = torch.full((1, 3, 4, 6), 7, dtype=torch.uint8)
    return Batch(images, ImageSizes((4, 6), size, size), Targets(torch.tensor([1]), boxes), (1,), (name,))


def test_means_go_on_where_a_save_left_them() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(10, 2, 2, generator=generator)
    whole, parts = LossWatch(), LossWatch()
    for step, passes in enumerate(values):
        if step == 6:
            saved = {name: parts.tensors()[name].clone() for name in reversed(parts.tensors())}
            parts = LossWatch(saved)
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
def test_not_finite(value: float) -> None:
    watch = LossWatch()
    watch.add({"boxes/good": torch.tensor(1.0), "boxes/bad": torch.tensor(0.5)})
    watch.check_step(0, [batch("fine.png")], torch.tensor(2.0))
    watch.add({"boxes/good": torch.tensor(1.0), "boxes/bad": torch.tensor(value)})
    with pytest.raises(NonFiniteStep, match=r"^boxes/bad is not finite at step 2; .*first\.png, second\.png") as caught:
        watch.check_step(1, [batch("first.png"), batch("second.png")], torch.tensor(math.nan))
    assert "\n" not in str(caught.value)
    assert (caught.value.index, caught.value.broken) == (1, ["boxes/bad"])
    assert [one.files for one in caught.value.batches] == [("first.png",), ("second.png",)]


def test_gradient_that_is_not_finite() -> None:
    watch = LossWatch()
    watch.add({"a/x": torch.tensor(1.0)})
    with pytest.raises(NonFiniteStep, match=r"^the gradient is not finite at step 6; its images are one\.png"):
        watch.check_step(5, [batch("one.png")], torch.tensor(math.inf))


def test_on_a_device_the_weights_wait_for_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the check lags: a fused optimizer leaves the weights of the spoiled step and of all later ones alone."""
    watch, weight = LossWatch(), torch.nn.Parameter(torch.ones(3))
    monkeypatch.setattr(watch, "check", lambda: None)
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        optimizer = kind([weight], lr=0.1, fused=True)
        seen = []
        for gradient in (1.0, math.nan, 1.0):
            watch.add({"a/x": torch.tensor(1.0)})
            watch.check_step(0, [], torch.tensor(gradient))
            weight.grad = torch.full((3,), gradient)
            optimizer.found_inf = watch.spoiled
            before = weight.detach().clone()
            optimizer.step()
            seen.append(torch.equal(weight, before))
        assert seen == [False, True, True]
        watch.spoiled = None


def test_losses_that_cancel_out_are_still_seen() -> None:
    """Their sum would be NaN; each is looked at by itself."""
    watch = LossWatch()
    watch.add({"a": torch.tensor(float("inf")), "b": torch.tensor(-float("inf"))})
    with pytest.raises(NonFiniteStep, match="a, b is not finite"):
        watch.check_step(0, [batch("x")])
