"""A config under Ray ends with what torchrun gives, bit for bit, also when Ray has to start it again."""

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from tasks.checkpoint import latest_checkpoint
from tasks.config import Experiment
from tests.tasks.test_distributed import last_weights, start

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tiny_masks: Experiment, written: Callable[[Experiment], Path]) -> Path:
    tiny_masks.data.batch_size = 4
    tiny_masks.schedule.steps, tiny_masks.runner.save_every_steps = 24, 1
    tiny_masks.runner.evaluate_every, tiny_masks.runner.pictures = 99, 0
    return written(tiny_masks)


@pytest.mark.measurement  # starting Ray twice takes minutes on two cores
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='needs Ray: pip install -e ".[ray]"')
def test_as_torchrun_with_a_process_killed(config: Path, tmp_path: Path) -> None:
    run = tmp_path / "ray"
    command = [sys.executable, ROOT / "tools" / "train_on_ray.py", "--processes", "2", "--max-failures", "2", "--"]
    with (tmp_path / "said").open("w+") as said:
        driver = subprocess.Popen(
            [*map(str, command), str(config), "--out", str(run)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            killed, end = 0, time.monotonic() + 400
            while driver.poll() is None and time.monotonic() < end:
                if not killed and latest_checkpoint(run / "checkpoints") is not None:
                    killed = _kill_a_worker(driver.pid)
                time.sleep(0.02)
            said.seek(0)
            assert driver.poll() == 0, said.read()[-4000:]
            assert killed
        finally:
            driver.kill()
            driver.wait()
    start(2, "train.py", config, "--out", tmp_path / "torchrun")
    for part in ("model", "optimizer"):
        ours, theirs = (last_weights(tmp_path / name, part) for name in ("ray", "torchrun"))
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if ours[name].tobytes() != np.asarray(theirs[name]).tobytes()] == []
    starts = (run / "starts.jsonl").read_text().splitlines()
    assert len(starts) > 1  # it was started again, and went on


def _kill_a_worker(driver: int) -> int:
    for process in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                process.kill()
                return process.pid
    return 0


def test_mistakes_are_told_before_anything_starts(command, config: Path) -> None:
    assert "no run folder is named; expected --out FOLDER" in command("train_on_ray", "--", config).complaint
    said = command("train_on_ray", "--processes", "0", "--", config, "--out", "x")
    assert "processes is 0" in said.complaint
    said = command("train_on_ray", "--", config, "--out", "x", "--optimizer.rate", "1")
    assert "--optimizer.rate" in said.complaint
