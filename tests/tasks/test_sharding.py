"""Weights divided among two gloo processes: the same training as with whole ones."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backbones import UserError
from heads import heads
from tasks.config import RunnerConfig
from tasks.device import build_accelerator
from tests.tasks.test_distributed import ROOT, assert_same_run, config, records, start

__all__ = ["config"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        pytest.param(["sgd", "lamb"], ["sgd", "lamb"], marks=pytest.mark.slow),
        pytest.param(["adam", "adamw", "rmsprop"], ["adam", "adamw", "rmsprop"], marks=pytest.mark.measurement),
        pytest.param(["heads"], heads.names(), marks=pytest.mark.measurement),
    ],
)
def test_every_optimizer_and_head(words: list[str], names: list[str], tmp_path: Path) -> None:
    script = Path(__file__).with_name("distributed_sharding.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, script, tmp_path, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    equal = " ".join(line for line in done.stdout.splitlines() if line.endswith(" equal"))
    assert [name for name in names if name not in equal] == []


@pytest.mark.slow
def test_goes_on_from_whole_weights_and_back(config: Path, tmp_path: Path) -> None:
    """An epoch of whole weights, one of shares, one of whole weights again, each from the checkpoint before."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    start(1, "train.py", config, "--out", whole)
    shutil.copytree(whole, run)
    later = sorted((run / "checkpoints").glob("step_*"))[1:]
    for folder in later:
        shutil.rmtree(folder)
    assert "2 processes, each with its share of the weights" in start(2, "train.py", "--resume", run, "--runner.shard")
    assert_same_run(whole, run, 1e-5)
    shutil.rmtree(max((run / "checkpoints").glob("step_*")))
    start(1, "train.py", "--resume", run, "--runner.no-shard")
    assert_same_run(whole, run, 1e-5)
    for line, twin in zip(records(whole, "metrics"), records(run, "metrics"), strict=True):
        assert twin["metrics"] == pytest.approx(line["metrics"], abs=1e-4)


def test_scaled_gradients_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(UserError, match=r"runner.shard does not go with fp16.*--runner.precision bf16"):
        build_accelerator(RunnerConfig(device="cuda", precision="fp16", shard=True))
