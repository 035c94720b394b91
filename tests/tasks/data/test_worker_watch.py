"""A loader process that dies or fails says where and why, and the run can go on."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import get_worker_info

from backbones import UserError
from tasks.checkpoint import load_checkpoint
from tasks.data.dataset import Dataset
from tasks.data.formats.coco import CocoFolder
from tasks.data.loader import evaluation_loader
from tasks.data.sample import Sample, SampleKey
from tasks.data.worker_watch import WorkerWatch, dead_workers_told
from tasks.image_spec import ImageSpec
from tests.tasks.data.test_loader import config


def at(index: int, happens: Callable[[], object], killing: bool = False) -> Callable[[Dataset, SampleKey], Sample]:
    """`Dataset.__getitem__`, but for what happens at one image."""
    read = Dataset.__getitem__

    def read_or_not(self: Dataset, key: SampleKey) -> Sample:
        if key.index == index and (self.training or not killing):
            happens()
        return read(self, key)

    return read_or_not


def test_killed_worker_ends_the_run_in_one_line_and_it_goes_on(
    command, monkeypatch: pytest.MonkeyPatch, tiny_config: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def kill() -> None:
        if get_worker_info() is not None and list(run.glob("checkpoints/step_*2")):
            os.kill(os.getpid(), signal.SIGKILL)

    arguments = ["--runner.save_every_steps", "1", "--runner.keep_last", "9", "--data.workers", "1"]
    arguments += ["--schedule.epochs", "3"]
    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "__getitem__", at(3, kill, killing=True))
        complaint = command("train", tiny_config, "--out", run, *arguments).complaint
    assert complaint.startswith("a data worker" if "data worker 0" not in complaint else "data worker 0 (process ")
    for words in ("is killed by signal: Killed while it was at ", "train_0004.png, with ", "MiB of memory held",
                  "set --data.workers lower", f"go on with: python tools/train.py --resume {run}"):  # fmt: skip
        assert words in complaint
    steps = sorted(run.glob("checkpoints/step_*"))
    assert len(steps) >= 2
    for folder in steps:
        assert load_checkpoint(folder, prefer_best=False).tensors("model")
    said = command("train", "--resume", run, "--data.workers", "0")
    assert said.code == 0, said.error


@pytest.mark.parametrize("workers", [0, 1])
def test_error_that_is_none_of_the_users(
    workers: int,
    coco_content: Callable[..., Any],
    write_coco: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    split = CocoFolder(write_coco(coco_content(6))).read("train")

    def fail() -> None:
        raise KeyError("a defect\nof a reader")

    monkeypatch.setattr(Dataset, "__getitem__", at(4, fail))
    batches = evaluation_loader(split, config(workers=workers), ImageSpec(), divisor=32)
    place = "data worker 0" if workers else "the main process"
    with pytest.raises(UserError) as caught:
        list(batches)
    assert str(caught.value).startswith(f"{split.file(4)}: reading it failed in {place}")
    assert "KeyError: 'a defect" in str(caught.value)
    told = capsys.readouterr().err
    assert told.startswith("Traceback (most recent call last):")
    assert "in fail" in told


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), dead_workers_told("go on"):
        raise RuntimeError("shapes do not match")
    assert WorkerWatch.explain(RuntimeError("CUDA error")) == ""


@pytest.mark.parametrize(
    ("message", "held"),
    [
        ("DataLoader worker (pid 77) is killed by signal: Bus error. It is possible that", "/dev/shm"),
        ("DataLoader worker (pid(s) 77, 78) exited unexpectedly", "exited unexpectedly while it was at picture 5"),
        ("DataLoader worker (pid 77) exited unexpectedly with exit code 1. Details are", "with exit code 1 while"),
        ("DataLoader worker (pid 99) is killed by signal: Killed. ", "a data worker (process 99) is killed by"),
    ],
)
def test_what_torch_says(message: str, held: str) -> None:
    class Pictures:
        def __getitem__(self, key: SampleKey) -> Sample:
            raise NotImplementedError

        def describe(self, index: int) -> str:
            return f"picture {index}"

    watch = WorkerWatch(Pictures(), 2)
    watch.notes[1] = torch.tensor([77, 5, 3 << 20])
    told = WorkerWatch.explain(RuntimeError(message))
    assert held in told
    assert "99" in message or "data worker 1 (process 77)" in told
    assert "\n" not in told
