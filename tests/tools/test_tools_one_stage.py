"""The tools on a run with all heads of one stage, as a person would call them."""

import json
from pathlib import Path

import pytest

from tasks.config import Experiment

HEADS = ("retinanet", "fcos", "yolo")


@pytest.fixture(scope="module")
def run_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("one_stage") / "run"


@pytest.fixture
def trained_one_stage(run_of_all: Path, command, written, tiny_one_stage: Experiment) -> Path:
    """Trained once for all tests: not to be written to."""
    if not run_of_all.exists():
        said = command("train", written(tiny_one_stage), "--out", run_of_all, "--runner.monitor", "yolo/AP50")
        assert said.code == 0, said.error
    return run_of_all


def test_evaluate_gives_what_training_measured(command, trained_one_stage: Path, tmp_path: Path) -> None:
    said = command("evaluate", trained_one_stage, "--out", tmp_path / "found.json")
    assert said.code == 0, said.error
    log = (trained_one_stage / "metrics.jsonl").read_text()
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == json.loads(log.splitlines()[-1])["metrics"]
    assert {f"{head}/AP50" for head in HEADS} <= found.keys()
    for loss in ("retinanet/loss_box", "fcos/loss_centerness", "yolo/loss_distribution"):
        assert loss in log


def test_predict(command, trained_one_stage: Path, tiny_data: Path, tmp_path: Path) -> None:
    said = command("predict", trained_one_stage, tiny_data / "val", "--out", tmp_path / "out")
    assert said.code == 0, said.error
    assert list((tmp_path / "out").rglob("*.jpg"))


@pytest.mark.parametrize("head", HEADS)
def test_explain(command, trained_one_stage: Path, tiny_data: Path, tmp_path: Path, head: str) -> None:
    image = sorted((tiny_data / "val").glob("*.png"))[0]
    options = ("--head", head, "--threshold", "0", "--out", tmp_path / "out")
    said = command("explain", trained_one_stage, image, *options)
    assert said.code == 0, said.error
    assert len(list((tmp_path / "out").rglob("*.png"))) == 1
