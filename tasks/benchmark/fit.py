"""The largest batch that a training step fits into memory with, by trial: each in a process of its own."""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backbones.errors import UserError
from tasks.benchmark.accelerator import device, finished, peak_memory
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.benchmark.process_memory import (
    ProcessDied,
    available_bytes,
    end_above,
    in_own_process,
    mebibytes,
    parse_bytes,
)
from tasks.benchmark.subject import Subject
from tasks.benchmark.table import Table
from tasks.progress import Reporter

MOST = 1 << 16  # images: no larger batch is tried
PRECISION = 16  # the search ends within a sixteenth of the largest
TRIAL_STEPS = 2  # the second one finds the optimizer's state in memory
RUNS = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """Steps of one batch size that fit.

    Attributes:
        images: a batch.
        peak_bytes: the most that the process held.
        seconds: of a step, median of all but the first.
    """

    images: int
    peak_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Search:
    """The outcome.

    Attributes:
        largest: that fits; None where not even one image does.
        too_many: the fewest images that were found not to fit; None where all that were tried do.
        trials: how many processes it took.
    """

    largest: Trial | None
    too_many: int | None
    trials: int


def find_largest_batches(arguments: BenchmarkArguments, reporter: Reporter) -> list[Table]:
    """A table with a row without and one with activation checkpointing."""
    subject = Subject.named(arguments)
    limit = parse_bytes(arguments.memory_limit) if arguments.memory_limit else _available()
    steps = 1 + (arguments.runs or RUNS)
    rows: list[tuple[str, ...]] = []
    figures: list[dict[str, Any]] = []
    refused: list[str] = []
    for checkpointing in (False, True):

        def attempt(images: int, steps: int = TRIAL_STEPS, checkpointing: bool = checkpointing) -> Trial | None:
            try:
                trial = in_own_process(train_within, subject, images, limit, steps, checkpointing)
            except ProcessDied:
                trial = None
            told = "does not fit" if trial is None else f"{mebibytes(trial.peak_bytes)} MiB"
            reporter.say(f"batch {images}{', checkpointing' * checkpointing}: {told}")
            return trial

        try:
            found = search(attempt, arguments.batch or 1)
        except UserError as error:
            if not rows:
                raise
            refused.append(f"with checkpointing: {error}")  # not every backbone can
            continue
        # The one that is reported takes more steps, which may hold a little more.
        best, images = None, found.largest.images if found.largest else 0
        while images and (best := attempt(images, steps)) is None:
            images -= max(1, images // PRECISION)
        rows.append(
            (
                "with checkpointing" if checkpointing else "plain",
                str(best.images) if best else "none",
                mebibytes(best.peak_bytes) if best else "-",
                f"{best.images / best.seconds:,.1f}" if best else "-",
                str(found.too_many) if found.too_many else "-",
                str(found.trials),
            )
        )
        figures.append(
            {
                "activation_checkpointing": checkpointing,
                "batch": best.images if best else 0,
                "peak_bytes": best.peak_bytes if best else None,
                "images_per_second": best.images / best.seconds if best else None,
                "too_many": found.too_many,
                "limit_bytes": limit,
            }
        )
    notes = [
        f"largest batch whose training step fits into {mebibytes(limit)} MiB of {_where()}, within a sixteenth; peak "
        f"MiB: of the process; images/s: at that batch, median of {steps - 1} steps; too many: the fewest that did not "
        "fit; trials: each in a process of its own",
        *refused,
    ]
    columns = ("activations", "batch", "peak MiB", "images/s", "too many", "trials")
    return [Table(f"fit, {subject}: largest batch of a training step", columns, rows, figures, notes)]


def search(attempt: Callable[[int], Trial | None], first: int) -> Search:
    """Double from `first` on until it does not fit, then halve the distance between what fits and what does not.

    Args:
        attempt: gives None where a batch does not fit.
        first: images of the first attempt.
    """
    largest: Trial | None = None
    too_many: int | None = None
    images, trials = first, 0
    while images <= MOST:
        trial = attempt(images)
        trials += 1
        if trial is None:
            too_many = images
        else:
            largest = trial
        low = largest.images if largest else 0
        if too_many is None:
            images *= 2
        elif too_many - low <= max(1, low // PRECISION):
            break
        else:
            images = (low + too_many) // 2
    return Search(largest, too_many, trials)


def train_within(subject: Subject, images: int, limit: int, steps: int, checkpointing: bool) -> Trial | None:
    """Train a few steps in this process; it ends where it holds more than `limit` bytes. None: out of GPU memory."""
    if device().type == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
    else:
        end_above(limit)
    # What a run says at its start would stand before every trial.
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        try:
            ours = subject.build(images, Path(folder), checkpointing)
            step, seconds = finished(ours.train), []
            for _ in range(steps):
                start = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - start)
        except torch.cuda.OutOfMemoryError:
            return None
    return Trial(images, peak_memory(), statistics.median(seconds[1:]))


def _available() -> int:
    if device().type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return available_bytes()


def _where() -> str:
    return "GPU memory" if device().type == "cuda" else "main memory"
