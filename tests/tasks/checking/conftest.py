"""Experiments on generated shapes, to be checked whole and spoiled."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config import (
    BackboneConfig,
    ClassificationConfig,
    DataConfig,
    Experiment,
    FasterRCNNConfig,
    HeadConfig,
    OptimizerConfig,
    RunnerConfig,
    ScheduleConfig,
    UNetConfig,
)
from tests.conftest import SMALL_DETECTOR
from tests.tasks.checking.shapes import write_shapes

SPLITS = {"train": "train", "val": "val"}
Make = Callable[[str], tuple[Experiment, Path]]


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated data: not to be written to."""
    return write_shapes(tmp_path_factory.mktemp("shapes") / "data")


@pytest.fixture
def make(shapes: Path, tmp_path: Path) -> Make:
    """`make("boxes")`: an experiment on boxes, masks or labels of images, and the folder of its copy of the data."""

    def copied(kind: str) -> tuple[Experiment, Path]:
        folder = Path(shutil.copytree(shapes, tmp_path / "data"))
        return experiment(kind, folder), folder

    return copied


def experiment(kind: str, folder: Path) -> Experiment:
    """A small experiment on the shapes in `folder`."""
    heads: dict[str, HeadConfig] = {
        "boxes": FasterRCNNConfig.model_validate(SMALL_DETECTOR),
        "masks": UNetConfig(decoder_channels=(32, 24, 16, 16, 8)),
        "labels": ClassificationConfig(),
    }
    roots = {"boxes": folder, "masks": folder / "masks", "labels": folder / "labels.csv"}
    optimizers = {
        "boxes": OptimizerConfig(lr=0.01),
        "masks": OptimizerConfig(name="adamw", lr=1e-3),
        "labels": OptimizerConfig(name="adamw", lr=3e-4),
    }
    return Experiment(
        name=kind,
        backbone=BackboneConfig(name="resnet18", norm="gn"),
        heads={kind: heads[kind]},
        data=DataConfig(root=roots[kind], batch_size=4, short_side=(64,), long_side=64, workers=0),
        optimizer=optimizers[kind],
        schedule=ScheduleConfig(epochs=4, warmup_steps=4, milestones=(3,)),
        runner=RunnerConfig(device="cpu", precision="fp32"),
    )
