"""Fixtures shared by all tests."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tasks.config import Experiment


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real images, annotations and weights that POLYHEAD_DATA names.

    Skips only when the variable is unset: a folder that was promised and is not there is a failure.
    """
    value = os.environ.get("POLYHEAD_DATA")
    if not value:
        pytest.skip("POLYHEAD_DATA is not set; point it at the folder of reference data to run this test")
    folder = Path(value).resolve()
    assert folder.is_dir(), f"POLYHEAD_DATA={value} is not a folder"
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO folder of 10 training and 4 validation images of 64 x 64 pixels with 3 classes."""
    from tasks.data.cells import write_cells

    return write_cells(tmp_path_factory.mktemp("cells"), train=10, val=4, size=64)


@pytest.fixture
def tiny(tiny_data: Path) -> "Experiment":
    """A fresh experiment on `tiny_data` whose step takes about 50 ms on a core."""
    from tasks.config import BackboneConfig, DataConfig, Experiment, FasterRCNNConfig, RunnerConfig, ScheduleConfig

    head = FasterRCNNConfig(
        fpn_channels=32,
        box_head_channels=64,
        anchor_sizes=(8, 16, 24, 32, 48),
        rpn_pre_nms=100,
        rpn_post_nms=50,
        rpn_pre_nms_test=50,
        rpn_post_nms_test=20,
        rpn_samples=32,
        roi_samples=32,
    )
    return Experiment(
        name="tiny",
        backbone=BackboneConfig(name="resnet18", norm="gn"),
        heads={"boxes": head},
        data=DataConfig(root=tiny_data, batch_size=2, short_side=(64,), long_side=64, workers=0),
        schedule=ScheduleConfig(epochs=1, warmup_steps=2),
        runner=RunnerConfig(device="cpu", precision="fp32", log_every=1, pictures=2),
    )
