"""A checkpoint is there whole or not at all, whatever stops its writer and wherever."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones import UserError
from tasks import checkpoint as module
from tasks.checkpoint import (
    best_checkpoint,
    latest_checkpoint,
    load_checkpoint,
    mark_best,
    prune_checkpoints,
    save_checkpoint,
)
from tasks.config import Experiment
from tasks.label_map import LabelMap

LABELS = {"boxes": LabelMap(ids=(3, 7), names=("a", "b"))}


def save(root: Path, step: int) -> Path:
    tensors = {part: {"weight": torch.full((64, 64), float(step))} for part in ("model", "optimizer")}
    return save_checkpoint(root, step, tensors, LABELS, Experiment(name="test"), {}, 10)


def assert_usable(run: Path, steps: set[int]) -> None:
    """The run's checkpoint loads, is of one of these steps, and holds what was saved at it."""
    for best in (False, True):
        loaded = load_checkpoint(run, prefer_best=best)
        assert loaded.step in steps
        assert loaded.labels == LABELS
        for part in ("model", "optimizer"):
            assert torch.equal(loaded.tensors(part)["weight"], torch.full((64, 64), float(loaded.step)))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    folder = save(tmp_path / "checkpoints", 5)
    for path in (tmp_path, folder, folder / "model.safetensors", folder / "state.json"):
        loaded = load_checkpoint(path, prefer_best=False)
        assert (loaded.folder, loaded.step, loaded.config) == (folder, 5, Experiment(name="test"))
    assert loaded.tensors("ema") == {}
    assert loaded.weights().keys() == {"weight"}


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and what would clean up is switched off."""


# Every call by which saving, marking and pruning change the disk.
OPERATIONS: list[tuple[Any, str]] = [
    (Path, "mkdir"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "write_text"),
    (os, "fsync"),
    (os, "unlink"),
    (os, "rmdir"),
    (module, "save_file"),
]


def act(root: Path) -> None:
    """What the runner does at the end of an epoch."""
    folder = save(root, 3)
    prune_checkpoints(root, 1)
    mark_best(root, folder, "boxes/AP", 0.5)
    prune_checkpoints(root, 1)


def interrupt(monkeypatch: pytest.MonkeyPatch, stop: Callable[[int], None]) -> list[str]:
    """`stop` is called with its number before each operation; their names are returned."""
    done: list[str] = []

    def wrap(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            stop(len(done))
            done.append(name)
            return original(*arguments, **keywords)

        monkeypatch.setattr(owner, name, wrapped)

    for owner, name in OPERATIONS:
        wrap(owner, name)
    return done


def prepared(folder: Path) -> Path:
    root = folder / "checkpoints"
    mark_best(root, save(root, 1), "boxes/AP", 0.4)
    save(root, 2)
    return root


def test_killed_between_any_two_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = prepared(tmp_path / "whole")
    with monkeypatch.context() as patch:
        # rmtree has its own ways into the kernel; this one goes through those that are counted.
        patch.setattr(shutil, "_use_fd_functions", False)
        done = interrupt(patch, lambda number: None)
        act(root)
    assert {"rename", "replace", "fsync", "save_file", "write_text", "mkdir", "unlink", "rmdir"} <= set(done)

    for number in range(len(done)):
        root = prepared(tmp_path / str(number))

        def kill(count: int, number: int = number) -> None:
            if count >= number:  # Nothing more happens after a kill, cleaning up included.
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "_use_fd_functions", False)
            interrupt(patch, kill)
            with pytest.raises(Killed):
                act(root)
        assert_usable(root.parent, {1, 2, 3})
        assert load_checkpoint(root.parent, prefer_best=False).step >= 2
        # The next run saves the same step again, and leaves nothing behind.
        act(root)
        assert_usable(root.parent, {3})
        assert sorted(path.name for path in root.iterdir()) == ["best.json", "step_00000003"]


@pytest.mark.parametrize("number", range(6))
def test_no_space_left_at_any_write(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = prepared(tmp_path)
    count = iter(range(100))

    def fail(original: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any, **keywords: Any) -> Any:
            if next(count) == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*arguments, **keywords)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", fail(module.save_file))
        patch.setattr(Path, "write_text", fail(Path.write_text))
        patch.setattr(os, "fsync", fail(os.fsync))
        with pytest.raises(UserError, match=r"no space left on the disk; .*step_00000002 is whole.*--resume") as caught:
            save(root, 3)
    assert "\n" not in str(caught.value)
    assert_usable(tmp_path, {1, 2})
    assert not list(root.glob(".writing*")), "what was written is given back"
    save(root, 3)
    assert load_checkpoint(tmp_path, prefer_best=False).step == 3


FILL = """
import sys
from pathlib import Path
import torch
from tasks.checkpoint import load_checkpoint, save_checkpoint
from tasks.cli import run
from tasks.config import Experiment

def save(step, megabytes):
    tensors = {"model": {"weight": torch.ones(megabytes, 2**18)}}
    save_checkpoint(Path(sys.argv[1]) / "checkpoints", step, tensors, {}, Experiment(), {}, 10)

def command(argv):
    save(1, 3)
    save(2, 8)

code = run(command, [])
assert load_checkpoint(Path(sys.argv[1]), prefer_best=False).step == 1
assert load_checkpoint(Path(sys.argv[1]), prefer_best=False).tensors("model")["weight"].sum() == 3 * 2**18
save(3, 4)
assert load_checkpoint(Path(sys.argv[1]), prefer_best=False).step == 3
sys.exit(code)
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """On a file system of 8 MiB where this user may mount one, else with files limited to 5 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    python = [sys.executable, "-c", FILL, str(disk / "run")]
    mount = ["unshare", "--mount", "--map-root-user"]
    can_mount = (
        shutil.which("unshare") is not None
        and subprocess.run([*mount, "mount", "-t", "tmpfs", "none", disk], capture_output=True).returncode == 0
    )
    if can_mount:
        script = f'mount -t tmpfs -o size=8m none {disk} && exec "$@"'
        command = [*mount, "sh", "-c", script, "sh", *python]
    else:  # dash counts in blocks of 512 bytes, and SIGXFSZ would end the process before it sees an error
        command = ["sh", "-c", 'trap "" XFSZ; ulimit -f 10240; exec "$@"', "sh", *python]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "no space left on the disk" in done.stderr
    assert "step_00000001 is whole" in done.stderr


def test_prune_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    folders = [save(root, step) for step in range(1, 6)]
    mark_best(root, folders[1], "boxes/AP", 0.5)
    (root / ".writing_step_00000009").mkdir()
    (root / ".deleting_step_00000001").mkdir()
    prune_checkpoints(root, 2)
    assert sorted(path.name for path in root.iterdir()) == [
        "best.json", "step_00000002", "step_00000004", "step_00000005",
    ]  # fmt: skip
    assert best_checkpoint(root) == folders[1]
    assert latest_checkpoint(root) == folders[4]
    assert load_checkpoint(tmp_path, prefer_best=True).step == 2
    assert load_checkpoint(tmp_path, prefer_best=False).step == 5


@pytest.mark.parametrize("text", ["", "{", "[]", '{"checkpoint": 3}', '{"checkpoint": "step_00000077"}'])
def test_best_that_is_not_there(text: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "checkpoints", 1)
    (tmp_path / "checkpoints" / "best.json").write_text(text)
    assert best_checkpoint(tmp_path / "checkpoints") is None
    assert load_checkpoint(tmp_path, prefer_best=True).folder == folder


def test_tied_weights_and_other_layouts(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    parts = {"model": {"a": weight, "b": weight, "c": weight[1:, :1]}}
    folder = save_checkpoint(tmp_path / "checkpoints", 1, parts, LABELS, Experiment(), {}, 10)
    loaded = load_checkpoint(folder, prefer_best=False).tensors("model")
    assert all(torch.equal(loaded[name], parts["model"][name]) for name in "abc")
