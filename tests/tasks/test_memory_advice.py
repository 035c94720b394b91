"""A step that does not fit into memory names its images, and as many of them as do fit."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.checkpoint import load_checkpoint
from tasks.evaluation import Evaluator
from tasks.memory_advice import out_of_memory
from tasks.model import Model


def real() -> object:
    """What torch's own allocator says."""
    return torch.empty(1 << 60)


def cuda() -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def numpy_() -> object:
    raise MemoryError


@pytest.mark.parametrize(
    ("shortage", "fits", "passes", "held"),
    [
        (real, 1, 1, "1 of them fit: set --runner.accumulate 4, "),
        (cuda, 2, 1, "2 of them fit: set --runner.accumulate 2, "),
        (cuda, 1, 2, "1 of them fit: set --runner.accumulate 4, "),
        (numpy_, 0, 1, "not even one fits: set --data.short_side"),
    ],
)
def test_a_step_that_does_not_fit(
    shortage: Any, fits: int, passes: int, held: str, command, tiny_config: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    forward, run = Model.forward, tmp_path / "run"

    def starved(self: Model, batch: Any) -> dict[str, torch.Tensor]:
        if len(batch) > fits and list(run.glob("checkpoints/step_*")):
            shortage()
        return forward(self, batch)

    arguments = ["--data.batch_size", "4", "--runner.accumulate", str(passes), "--runner.save_every_steps", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(Model, "forward", starved)
        complaint = command("train", tiny_config, "--out", run, *arguments).complaint
    assert complaint.startswith(f"out of memory at step 2: {4 // passes} images of 64 x 64 pixels (height x width)")
    assert ".png; " in complaint
    assert held in complaint
    assert f"--resume {run}" in complaint
    assert load_checkpoint(run, prefer_best=False).step == 1


def test_an_evaluation_that_does_not_fit(
    command, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "evaluate", lambda *given, **named: cuda())
    run = tmp_path / "run"
    arguments = ["--schedule.steps", "1", "--schedule.milestones", "1"]
    complaint = command("train", tiny_config, "--out", run, *arguments).complaint
    assert complaint.startswith("out of memory outside of a training step, as in an evaluation (CUDA out of memory.")
    assert load_checkpoint(run, prefer_best=False).step == 1


def test_other_errors_are_not_about_memory() -> None:
    assert out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not out_of_memory(OSError(errno.EBADF, "Bad file descriptor"))
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert not out_of_memory(ValueError("not enough memory cards"))
