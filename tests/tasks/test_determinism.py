"""The same config and seed give the same weights, bit for bit: again, and with any number of loader processes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from heads import heads
from heads import roi_align as module
from tasks.checkpoint import load_checkpoint
from tasks.config import ClassificationConfig, Experiment, OptimizerConfig
from tests.tasks.test_pairs import experiment

Written = Callable[[Experiment], Path]


@pytest.fixture
def restored() -> Iterator[None]:
    """What the option sets is the process's own."""
    before = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.use_deterministic_algorithms(False)
    if before is None:
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def same(first: Path, second: Path) -> None:
    for part in ("model", "optimizer", "losses"):
        one, other = (load_checkpoint(run, prefer_best=False).tensors(part) for run in (first, second))
        assert one.keys() == other.keys()
        assert one
        assert [name for name in one if one[name].numpy().tobytes() != other[name].numpy().tobytes()] == []


DILATED = ("deeplabv3", "deeplabv3plus")  # these need an output stride of 16


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["most heads", "dilated", "labels"])
def test_twenty_steps_twice(
    kind: str, command, request: pytest.FixtureRequest, written: Written, tmp_path: Path
) -> None:
    """Under every registered head, several on one backbone, with no loader process and with two."""
    config: Experiment = request.getfixturevalue("tiny_labels" if kind == "labels" else "tiny")
    if kind != "labels":
        chosen = [name for name in heads.names() if (name in DILATED) == (kind == "dilated")]
        config.heads = experiment("resnet18", chosen).heads
        config.backbone.output_stride = 16 if kind == "dilated" else None
        config.optimizer = OptimizerConfig(name="adamw", lr=3e-4, clip_grad_norm=1.0)
    if "classification" in config.heads:
        config.heads["classification"] = ClassificationConfig(target="regression", dropout=0.5)
        config.data.count_objects = "all"
    config.schedule.steps, config.schedule.policy = 20, "cosine"
    config.runner.evaluate_every, config.runner.log_every, config.runner.pictures = 99, 7, 0
    file = written(config)
    for workers in ("0", "2"):
        said = command("train", file, "--out", tmp_path / workers, "--data.workers", workers)
        assert said.code == 0, said.error
    assert load_checkpoint(tmp_path / "0", prefer_best=False).step == 20
    same(tmp_path / "0", tmp_path / "2")


def test_deterministic_mode_is_switched_on(
    command, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored: None
) -> None:
    """Steps of a detector raise nothing under it, and RoIAlign is the gather without atomic additions."""
    called = []
    gather = module.gather_roi_align
    monkeypatch.setattr(module, "gather_roi_align", lambda *given: called.append(given) or gather(*given))
    said = command("train", tiny_config, "--out", tmp_path / "run", "--runner.deterministic", "--schedule.steps", "2",
                   "--schedule.milestones", "2")  # fmt: skip
    assert said.code == 0, said.error
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.backends.cudnn.benchmark
    assert called


@pytest.mark.parametrize(("deterministic", "way"), [(True, "gather"), (False, "reference")])
def test_roi_align_of_accelerators(
    deterministic: bool, way: str, monkeypatch: pytest.MonkeyPatch, restored: None
) -> None:
    """On a device that is no CPU, here torch's one without numbers, the mode decides which way is taken."""
    taken = []
    for name in ("gather", "reference"):
        monkeypatch.setattr(module, f"{name}_roi_align", lambda *given, name=name: taken.append(name))
    torch.use_deterministic_algorithms(deterministic)
    levels = [torch.zeros(1, 2, 8, 8, device="meta"), torch.zeros(1, 2, 4, 4, device="meta")]
    boxes = torch.zeros(3, 4, device="meta")
    module.roi_align(levels, [4, 8], boxes, torch.zeros(3, dtype=torch.int64, device="meta"), module.Pooling())
    assert taken == [way]
