"""Fixtures shared by all tests."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# The tests run in several processes already. Before torch is loaded, which reads it then.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tasks.cli import COMMANDS, run
from tasks.config import (
    BackboneConfig,
    ClassificationConfig,
    DataConfig,
    Experiment,
    FasterRCNNConfig,
    FCOSConfig,
    HeadConfig,
    MaskRCNNConfig,
    OptimizerConfig,
    RetinaNetConfig,
    RunnerConfig,
    ScheduleConfig,
    SourceConfig,
    UNetConfig,
    YOLOConfig,
)

SMALL_DETECTOR = {
    "fpn_channels": 32,
    "box_head_channels": 64,
    "anchor_sizes": (8, 16, 24, 32, 48),
    "rpn_pre_nms": 100,
    "rpn_post_nms": 50,
    "rpn_pre_nms_test": 50,
    "rpn_post_nms_test": 20,
    "rpn_samples": 32,
    "roi_samples": 32,
}


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
    from tasks.data.formats.cells import write_cells

    return write_cells(tmp_path_factory.mktemp("cells"), train=10, val=4, size=64)


@pytest.fixture
def tiny(tiny_data: Path) -> Experiment:
    """A fresh experiment on `tiny_data` whose step takes about 50 ms on a core."""
    return _experiment("boxes", FasterRCNNConfig.model_validate(SMALL_DETECTOR), tiny_data)


@pytest.fixture
def tiny_instances(tiny_data: Path) -> Experiment:
    """As `tiny`, for boxes with masks."""
    head = MaskRCNNConfig.model_validate({**SMALL_DETECTOR, "mask_channels": 16})
    return _experiment("instances", head, tiny_data)


@pytest.fixture
def tiny_one_stage(tiny_data: Path) -> Experiment:
    """As `tiny`, under all heads of one stage at once."""
    small = {"fpn_channels": 16, "tower_depth": 1, "score_threshold": 0.001}
    config = _experiment("retinanet", RetinaNetConfig(**small, anchor_sizes=(8, 16, 32, 48, 64)), tiny_data)
    config.heads["fcos"] = FCOSConfig(**small, scale_limits=(16, 32, 48, 64))
    config.heads["yolo"] = YOLOConfig(**small)
    config.optimizer = OptimizerConfig(name="adamw", lr=1e-3)
    return config


@pytest.fixture
def tiny_labels(tiny_data: Path) -> Experiment:
    """As `tiny`, for one of two labels an image."""
    config = _experiment("labels", ClassificationConfig(), tiny_data / "image_labels.csv")
    config.optimizer = OptimizerConfig(name="adamw", lr=3e-4)
    return config


@pytest.fixture
def tiny_masks(tiny_data: Path) -> Experiment:
    """As `tiny`, for the masks of its 3 classes."""
    config = _experiment("masks", UNetConfig(decoder_channels=(32, 24, 16, 16, 8)), tiny_data)
    config.optimizer = OptimizerConfig(name="adamw", lr=3e-3)
    return config


@pytest.fixture
def tiny_joint(tiny: Experiment, tiny_masks: Experiment) -> Experiment:
    """As `tiny`, for boxes and masks on one backbone."""
    tiny.heads |= tiny_masks.heads
    tiny.optimizer = OptimizerConfig(name="adamw", lr=1e-3)
    return tiny


@pytest.fixture
def tiny_sources(tiny_joint: Experiment, tiny_labels: Experiment) -> Experiment:
    """As `tiny_joint`, with labels of images from a table as a data set of its own."""
    tiny_joint.heads |= tiny_labels.heads
    objects = SourceConfig(root=tiny_joint.data.root, heads=("boxes", "masks"))
    table = SourceConfig(root=tiny_labels.data.root, heads=("labels",), ratio=10)
    tiny_joint.data.root, tiny_joint.data.sources = None, {"objects": objects, "table": table}
    return tiny_joint


def _experiment(kind: str, head: HeadConfig, root: Path) -> Experiment:
    return Experiment(
        name="tiny",
        backbone=BackboneConfig(name="resnet18", norm="gn"),
        heads={kind: head},
        data=DataConfig(root=root, batch_size=2, short_side=(64,), long_side=64, workers=0),
        schedule=ScheduleConfig(epochs=1, warmup_steps=2),
        runner=RunnerConfig(device="cpu", precision="fp32", log_every=1, pictures=2, report=False),
    )


@dataclass
class Said:
    """What a command said.

    Attributes:
        code: its exit code.
        out: what it printed.
        error: what it printed to stderr.
    """

    code: int
    out: str
    error: str

    @property
    def complaint(self) -> str:
        """The one line that a mistake of the user's gives."""
        assert self.code == 2, (self.code, self.out, self.error)
        assert self.error.startswith("error: "), self.error
        assert self.error.count("\n") == 1, self.error
        assert "Traceback" not in self.out
        return self.error.removeprefix("error: ").rstrip("\n")


@pytest.fixture(autouse=True)
def _accelerate_forgets() -> Iterator[None]:
    """accelerate keeps device and precision for the life of a process; each test chooses its own."""
    yield
    state = sys.modules.get("accelerate.state")
    if state is not None:
        state.AcceleratorState._reset_state(True)


Command = Callable[..., Said]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`command("train", "config.json", "--out", folder)`."""
    from accelerate.state import AcceleratorState

    monkeypatch.setenv("COLUMNS", "200")

    def call(name: str, *arguments: str | Path) -> Said:
        capsys.readouterr()
        # accelerate keeps device and precision for the life of a process, and each command stands for one.
        AcceleratorState._reset_state(True)
        code = run(COMMANDS[name], [str(word) for word in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


Written = Callable[[Experiment], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """`written(experiment)`: it as a file."""

    def write(config: Experiment) -> Path:
        file = tmp_path / "tiny.json"
        file.write_text(config.model_dump_json())
        return file

    return write


@pytest.fixture
def tiny_config(tiny: Experiment, written: Written) -> Path:
    """`tiny` as a file."""
    return written(tiny)


@pytest.fixture(scope="session")
def _runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def trained(_runs: Path, tiny_config: Path, command: Command) -> Path:
    """A run of `tiny`, trained once for all tests: not to be written to."""
    return _trained_once(_runs / "boxes", tiny_config, command)


@pytest.fixture
def trained_labels(_runs: Path, tiny_labels: Experiment, written: Written, command: Command) -> Path:
    """A run of `tiny_labels`, as `trained`."""
    return _trained_once(_runs / "labels", written(tiny_labels), command)


@pytest.fixture
def trained_masks(_runs: Path, tiny_masks: Experiment, written: Written, command: Command) -> Path:
    """A run of `tiny_masks`, as `trained`."""
    return _trained_once(_runs / "masks", written(tiny_masks), command)


@pytest.fixture
def trained_joint(_runs: Path, tiny_joint: Experiment, written: Written, command: Command) -> Path:
    """A run of `tiny_joint`, as `trained`."""
    return _trained_once(_runs / "joint", written(tiny_joint), command)


def _trained_once(run: Path, config: Path, command: Command) -> Path:
    if not run.exists():
        said = command("train", config, "--out", run)
        assert said.code == 0, said.error
    return run


@pytest.fixture
def copied_data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set, to be spoiled."""
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


@pytest.fixture
def edit(copied_data: Path) -> Callable[[Callable[[Any], object]], Path]:
    """`edit(change)`: calls `change` with the training annotations of `copied_data` and writes them back."""
    file = copied_data / "annotations" / "instances_train.json"

    def apply(change: Callable[[Any], object]) -> Path:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        return copied_data

    return apply
