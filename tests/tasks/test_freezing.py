"""What is frozen keeps its weights and its running statistics to the bit, and learns once it is freed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tasks.checkpoint import load_checkpoint
from tasks.config import Experiment
from tasks.label_map import LabelMap
from tasks.model import build_model
from tasks.seeding import derive_seed

LABELS = LabelMap(ids=(0, 1), names=("platelet", "white_cell"))
EVERY_STEP = ["--runner.save_every_steps", "1", "--runner.keep_last", "99"]


def at_step(run: Path, step: int) -> dict[str, Tensor]:
    return load_checkpoint(run / "checkpoints" / f"step_{step:08d}", prefer_best=False).tensors("model")


def initial(config: Experiment) -> dict[str, Tensor]:
    """The weights that a run begins with."""
    torch.manual_seed(derive_seed(config.runner.seed, "initial weights"))
    return build_model(config, dict.fromkeys(config.heads, LABELS)).state_dict()


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


@pytest.fixture
def config(tiny_labels: Experiment) -> Experiment:
    """With running statistics, decay, and a penalty, all of which might move weights without a gradient."""
    tiny_labels.backbone.norm = "bn"
    tiny_labels.optimizer.weight_decay, tiny_labels.optimizer.l1 = 0.1, 1e-3
    return tiny_labels


def test_backbone_frozen_for_an_epoch(config: Experiment, command, written, tmp_path: Path) -> None:
    config.optimizer.name = "sgd"
    config.schedule.epochs, config.schedule.freeze_backbone_epochs = 2, 1
    said = command("train", written(config), "--out", tmp_path / "run", *EVERY_STEP)
    assert said.code == 0, said.error
    start = initial(config)
    head = {name for name in start if name.startswith("heads.")}
    for step in range(1, 6):
        assert changed(start, at_step(tmp_path / "run", step)) == head, step
    # Of a ReLU that never fires in so few steps a weight may stay; all statistics move.
    moved = changed(start, at_step(tmp_path / "run", 6))
    statistics = {name for name in start if "running_" in name or name.endswith("num_batches_tracked")}
    kernels = {name for name in start if name.startswith("backbone.") and start[name].ndim == 4}
    assert head | statistics | kernels <= moved


def test_linear_probe_moves_only_the_head(config: Experiment, command, written, tmp_path: Path) -> None:
    config.backbone.frozen_stages = 5
    said = command("train", written(config), "--out", tmp_path / "run")
    assert said.code == 0, said.error
    moved = changed(initial(config), at_step(tmp_path / "run", 5))
    assert moved == {"heads.labels.linear.weight", "heads.labels.linear.bias"}
    assert "random weights but has frozen parts" in said.out
