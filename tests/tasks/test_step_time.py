"""Timing a step changes nothing, and counts every image."""

from pathlib import Path

import pytest
import torch

from tasks.config import Experiment, RunnerConfig
from tasks.data.formats.coco import CocoFolder
from tasks.data.loader import evaluation_loader
from tasks.data.sample import Batch
from tasks.device import build_accelerator
from tasks.model import Model, build_model
from tasks.step_time import PASSES, StepTime


@pytest.fixture
def model(tiny: Experiment, tiny_data: Path) -> Model:
    tiny.backbone.norm = "bn"
    return build_model(tiny, {"boxes": CocoFolder(tiny_data).read("val").label_map})


@pytest.fixture
def batch(tiny: Experiment, tiny_data: Path) -> Batch:
    loader = evaluation_loader(CocoFolder(tiny_data).read("val"), tiny.data, tiny.image, divisor=32)
    return next(iter(loader))


def step_time(model: Model, device: str = "cpu") -> StepTime:
    return StepTime(model, build_accelerator(RunnerConfig.model_validate({"device": device, "precision": "fp32"})))


def test_nothing_changes(model: Model, batch: Batch) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    assert 0 < step_time(model)(batch, 4) < 60
    assert torch.equal(torch.get_rng_state(), random)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("seconds", "counted"),
    [([0.5, 0.1, 0.2], 0.1), ([3.0], 3.0)],
)
def test_every_image_counts(
    model: Model, batch: Batch, monkeypatch: pytest.MonkeyPatch, seconds: list[float], counted: float
) -> None:
    """On a CPU one image stands for all; the first time is a warm-up unless it takes long."""
    timed = step_time(model)
    left, seen = list(seconds), []

    def predict(given: Batch) -> float:
        seen.append(len(given))
        return left.pop(0)

    monkeypatch.setattr(timed, "_predict", predict)
    assert timed(batch, 12) == pytest.approx(12 * PASSES * counted)
    assert seen == [1] * len(seconds)
    assert not left


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_filled(model: Model, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    timed, seen = step_time(model, "cuda"), []

    def predict(given: Batch) -> float:
        seen.append((len(given), given.images.device.type))
        return 2.0

    monkeypatch.setattr(timed, "_predict", predict)
    assert timed(batch, 12) == PASSES * 2.0
    assert seen == [(12, "cuda")]
