"""What loader processes are at, in memory that outlives them: a killed one can no longer say which image it read."""

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

import torch
from torch.utils.data import get_worker_info

from backbones.errors import UserError
from tasks.data.sample import Samples

STATM = Path("/proc/self/statm")
# torch raises this wherever the main process happens to be, from the signal that a child has ended.
DIED = re.compile(r"DataLoader worker \(pid(?:\(s\))? (\d+)[\d, ]*\) (.*)", re.DOTALL)
ADVICE = {
    "Killed": "the system does that where memory runs out: set --data.workers lower, or make room",
    "unexpectedly": "if that was for lack of memory, set --data.workers lower; else look at that image",
    "Bus error": "shared memory (/dev/shm) may be full: set --data.workers lower, or give it more",
}


@dataclass(frozen=True, slots=True)
class LoadingFailed:
    """An error in reading an image that is none of the user's, with the traceback of the process that met it."""

    image: str
    error: str
    traceback: str
    place: str

    def tell(self) -> UserError:
        """Print the traceback; the error says the rest in one line."""
        print(self.traceback, file=sys.stderr, end="")
        return UserError(
            f"{self.image}: reading it failed in {self.place}: {self.error}; its traceback is above: expected an image "
            "and annotations that can be read, look at this one's"
        )


class WorkerWatch:
    """Notes of the loader processes of one loader.

    Args:
        samples: what they read.
        workers: how many there are; 0 where the main process reads.
    """

    _all: ClassVar["WeakSet[WorkerWatch]"] = WeakSet()

    def __init__(self, samples: Samples, workers: int) -> None:
        self.samples = samples
        # A row a worker: its process, the number of the image it is at, and the bytes it held when it began with it.
        self.notes = torch.full((max(workers, 1), 3), -1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        WorkerWatch._all.add(self)

    def begin(self, index: int) -> None:
        """Note that this process begins to read an image."""
        worker = get_worker_info()
        self.notes[worker.id if worker else 0] = torch.tensor([os.getpid(), index, _held_bytes()])

    def failed(self, error: Exception) -> LoadingFailed:
        """What is handed to the main process in place of a batch when reading the image begun last failed."""
        worker = get_worker_info()
        row = self.notes[worker.id if worker else 0].tolist()
        place = f"data worker {worker.id} (process {row[0]}, {_mebibytes(row[2])})" if worker else "the main process"
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return LoadingFailed(self.samples.describe(row[1]), reason, traceback.format_exc(), place)

    @classmethod
    def explain(cls, error: RuntimeError) -> str:
        """What is known about a loader process that died, in one line; empty if the error is about something else."""
        died = DIED.search(str(error))
        if died is None:
            return ""
        process, how = int(died[1]), died[2].split(". ")[0].strip(" .")
        told = f"a data worker (process {process}) {how}"
        for watch in cls._all:
            for worker, (own, index, held) in enumerate(watch.notes.tolist()):
                if own == process:
                    image = watch.samples.describe(index)
                    told = f"data worker {worker} (process {process}) {how} while it was at {image}, with "
                    told += f"{_mebibytes(held)} held"
        advice = next((text for name, text in ADVICE.items() if name in how), "look at that image")
        return f"{told}; {advice}"


@contextlib.contextmanager
def dead_workers_told(resume: str) -> Iterator[None]:
    """The death of a loader process within becomes a `UserError` that ends with `resume`, how to go on."""
    try:
        yield
    except RuntimeError as error:
        told = WorkerWatch.explain(error)
        if not told:
            raise
        raise UserError(f"{told}; {resume}") from None


def _held_bytes() -> int:
    if not STATM.exists():
        return -1
    return int(STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _mebibytes(count: int) -> str:
    return "an unknown amount of memory" if count < 0 else f"{count / 2**20:,.0f} MiB of memory"
