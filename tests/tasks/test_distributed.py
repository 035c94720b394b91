"""Two gloo processes, started by torchrun, do what one does with the same batches."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tasks.config import Experiment, OptimizerConfig

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Path]


def start(processes: int, tool: str, *arguments: str | Path) -> str:
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run(
        [*launcher, str(ROOT / "tools" / tool), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if kind in line]


def last_weights(run: Path, part: str = "model") -> dict[str, np.ndarray]:
    return load_file(max((run / "checkpoints").glob("step_*")) / f"{part}.safetensors")


def assert_same_run(one: Path, other: Path, tolerance: float) -> None:
    losses, others = records(one, "losses"), records(other, "losses")
    assert [line["step"] for line in losses] == [line["step"] for line in others]
    for line, twin in zip(losses, others, strict=True):
        assert line["lr"] == twin["lr"]
        assert twin["losses"] == pytest.approx(line["losses"], rel=1e-5, abs=1e-7), line["step"]
    for part in ("model", "optimizer", "ema"):
        weights, twins = last_weights(one, part), last_weights(other, part)
        assert weights.keys() == twins.keys()
        for name, weight in weights.items():
            if part == "optimizer":
                # Among a million ReLUs, now and then one is so near zero that rounding decides whether it passes its
                # gradient on: a jump of a percent, which no loss shows. A wrong divisor would be far more than this.
                assert np.linalg.norm(twins[name] - weight) <= 0.05 * np.linalg.norm(weight) + tolerance, name
            else:
                np.testing.assert_allclose(twins[name], weight, rtol=0, atol=tolerance, err_msg=f"{part} {name}")


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """GroupNorm, whose output does not depend on how a batch is divided; a rate at which nothing is chaotic yet.

    Of boxes unless a test asks for another kind.
    """
    tiny: Experiment = request.getfixturevalue(getattr(request, "param", "tiny"))
    tiny.schedule.epochs = 3
    if tiny.data.sources:  # without the head that normalises over a process's share of a batch
        del tiny.heads["masks"]
        tiny.data.sources["objects"].heads = ("boxes",)
        tiny.optimizer, tiny.losses.learned = OptimizerConfig(), True
        tiny.schedule.epochs = 1  # of twice the images; in a longer run a proposal is chosen by rounding
    tiny.optimizer.lr = 0.0001
    tiny.data.batch_size = 4
    tiny.runner.ema_decay = 0.9
    file = tmp_path / "config.json"
    file.write_text(tiny.model_dump_json())
    return file


@pytest.mark.parametrize("config", ["tiny", "tiny_instances", "tiny_sources"], indirect=True)
def test_two_processes_equal_one(config: Path, tmp_path: Path) -> None:
    start(1, "train.py", config, "--out", tmp_path / "one")
    said = start(2, "train.py", config, "--out", tmp_path / "two")
    assert "2 processes" in said
    assert len(records(tmp_path / "two", "losses")) in (6, 5)  # of one data set, of two
    assert_same_run(tmp_path / "one", tmp_path / "two", 1e-5)

    # Evaluation in shares: of the same checkpoint, the same numbers.
    for processes, name in ((1, "alone.json"), (2, "shared.json")):
        start(processes, "evaluate.py", tmp_path / "one", "--out", tmp_path / name)
    alone, shared = (json.loads((tmp_path / name).read_text()) for name in ("alone.json", "shared.json"))
    # Of the best checkpoint, which need not be the last.
    assert alone in [line["metrics"] for line in records(tmp_path / "one", "metrics")]
    assert shared.keys() == alone.keys()
    assert shared == pytest.approx(alone, abs=1e-6)


def test_resumed_with_two_processes(config: Path, tmp_path: Path) -> None:
    """The shares are a function of the step alone, so processes may come and go between runs."""
    start(1, "train.py", config, "--out", tmp_path / "one")
    start(1, "train.py", config, "--out", tmp_path / "run")
    run = tmp_path / "run"
    last = max((run / "checkpoints").glob("step_*"))
    shutil.rmtree(last)
    start(2, "train.py", "--resume", run)
    assert_same_run(tmp_path / "one", run, 1e-5)


def test_images_without_boxes_do_not_hang_a_process(tiny_data: Path, config: Path, tmp_path: Path) -> None:
    """Batches of two: with only one annotated image, one process or both have nothing to learn from at every step."""
    root = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    file = root / "annotations" / "instances_train.json"
    coco = json.loads(file.read_text())
    coco["annotations"] = [entry for entry in coco["annotations"] if entry["image_id"] == 3]
    file.write_text(json.dumps(coco))
    arguments = ["--data.root", root, "--data.batch_size", "2", "--schedule.epochs", "1"]
    for processes, name in ((1, "one"), (2, "two")):
        start(processes, "train.py", config, "--out", tmp_path / name, *arguments)
    without = [line for line in records(tmp_path / "two", "losses") if line["losses"]["boxes/loss_roi_box"] == 0]
    assert len(without) == 4
    assert_same_run(tmp_path / "one", tmp_path / "two", 1e-5)


@pytest.mark.parametrize("shares", [False, True])
def test_a_loss_that_is_not_finite_stops_all_processes(shares: bool, config: Path, tmp_path: Path) -> None:
    arguments = ["--out", tmp_path / "run", "--optimizer.lr", "1e30", "--schedule.warmup_steps", "0"]
    arguments += ["--runner.shard"] * shares
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, str(ROOT / "tools" / "train.py"), *map(str, [config, *arguments])],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "is not finite at step 2" in done.stderr
    assert not list((tmp_path / "run" / "checkpoints").glob("step_*"))


def test_weights_behind_the_level_that_a_head_reads(tiny_labels: Experiment, tmp_path: Path) -> None:
    """They get no gradient, for which processes would wait."""
    tiny_labels.heads["labels"].level = "c3"  # type: ignore[union-attr]
    file = tmp_path / "config.json"
    file.write_text(tiny_labels.model_dump_json())
    start(2, "train.py", file, "--out", tmp_path / "run")
    assert len(records(tmp_path / "run", "losses")) == 5
