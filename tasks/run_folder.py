"""Where a run writes: its config, its log of metrics, its checkpoints and pictures.

runs/faster_rcnn_r50_fpn/
    config.json      the resolved experiment; tools/train.py runs it again
    starts.jsonl     a line each time it was started or resumed: command, config as read, machine, versions
    metrics.jsonl    a line each `log_every` steps and one an evaluation
    checkpoints/     see tasks/checkpoint.py
    results/         what the metrics of the best checkpoint rest on, see tasks/image_results.py
    report.html      curves, metrics, errors and examples on one page
    pictures/        predictions drawn on validation images
    tensorboard/     when asked for
    .lock            held while a process trains here
"""

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backbones.errors import UserError
from tasks.config import Experiment
from tasks.run_lock import RunLock

# Read-only, gone, not ours, or on a disk or server that is not there any more.
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.ESTALE)


class RunFolder:
    """One run on disk.

    Args:
        path: its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.starts = path / "starts.jsonl"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.results = path / "results"
        self.report = path / "report.html"
        self.pictures = path / "pictures"
        self.tensorboard = path / "tensorboard"
        self.lock = RunLock(path)

    @classmethod
    def create(cls, config: Experiment, asked: Path | None) -> "RunFolder":
        """A new folder: the one asked for, else `runs/<name>`, `runs/<name>-2` and so on. Never one in use.

        Raises:
            UserError: the folder asked for already holds a run, or cannot be written.
        """
        path = asked or Path("runs") / config.name
        count = 1
        while asked is None and path.exists():
            count += 1
            path = Path("runs") / f"{config.name}-{count}"
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path}: exists and is not empty; go on with --resume {path} or choose another --out")
        folder = cls(path)
        try:
            folder.checkpoints.mkdir(parents=True)
            folder.config.write_text(config.model_dump_json(indent=1), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot write the run folder ({error.strerror}); choose another --out") from error
        return folder

    def begun_in_vain(self) -> bool:
        """Whether it holds nothing but what a run writes before its first checkpoint."""
        known = (self.config, self.starts, self.metrics, self.checkpoints, self.tensorboard, self.lock.file)
        unsaved = self.checkpoints.is_dir() and not any(self.checkpoints.glob("step_*"))
        return unsaved and all(entry in known for entry in self.path.iterdir())

    def clear_vain_start(self) -> None:
        """Take away what a run left that was begun in vain, so that another can begin here."""
        if self.begun_in_vain():
            shutil.rmtree(self.path, ignore_errors=True)  # another process may be faster

    def log_start(self, record: dict[str, Any]) -> None:
        """Append one line to starts.jsonl."""
        with self.starts.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """All whole lines of metrics.jsonl; a line cut off by a crash is left out."""
        return whole_lines(self.metrics)

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: a resumed run will log it again."""
        kept = [json.dumps(record) for record in self.records() if record["step"] <= step]
        writing = self.path / ".writing_metrics.jsonl"
        writing.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        writing.replace(self.metrics)

    def evaluations(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl that hold an evaluation: `{"step", "epoch", "metrics": {...}}`."""
        return [record for record in self.records() if "metrics" in record]

    @contextmanager
    def full_disk_told(self) -> Iterator[None]:
        """A write that fails within for want of space, or of a folder that takes it, becomes a `UserError` that tells
        how to go on.
        """
        try:
            yield
        except OSError as error:
            if error.errno in UNWRITABLE and str(error.filename).startswith(str(self.path)):
                raise UserError(
                    f"{error.filename}: cannot be written ({error.strerror}); make the folder one that can be written "
                    f"to and go on with --resume {self.path}"
                ) from error
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise UserError(
                f"{error.filename or self.path}: no space left on the disk; free some space and go on with "
                f"--resume {self.path}"
            ) from error


def whole_lines(file: Path) -> list[dict[str, Any]]:
    """The records of a file of json lines, none where there is no file; a line cut off by a crash is left out."""
    records = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records
