"""How many loader processes keep up with training, from a short measurement."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import torch

from tasks.data.batches import collate
from tasks.data.sample import Batch, SampleKey, Samples

SAMPLES, SECONDS = 8, 1.0  # measured at most
RESERVE = 1.25  # loading is not equally fast all the time
UNMEASURED = 4  # at most, where nothing says how fast the network is

Budget = Callable[[Batch, int], float]
"""Seconds that training takes at least for so many images, measured on a batch of some."""


@dataclass(frozen=True, slots=True)
class WorkerCount:
    """The number of loader processes, and what it rests on.

    Attributes:
        workers: processes.
        load: seconds that a process takes to load an image.
        step: seconds that training takes at least for `images`.
        images: of a pass.
        cores: there are for this training process.
    """

    workers: int
    load: float
    step: float
    images: int
    cores: int

    def __str__(self) -> str:
        enough = "" if self.load * self.images <= self.step * self.workers else ", which may not be enough"
        return (
            f"data.workers auto: {self.workers} of {self.cores} cores{enough}; an image takes {1000 * self.load:.1f} "
            f"ms to load, {self.images} of them at least {1000 * self.step:.0f} ms to train on"
        )


def needed_workers(load: float, step: float, images: int, cores: int) -> int:
    """The fewest processes that load `images` within `step` seconds, with a reserve; at least 1, at most `cores`."""
    needed = math.ceil(RESERVE * load * images / step) if step > 0 else cores
    return max(min(needed, cores), 1)


def measure_workers(
    dataset: Samples, keys: Sequence[SampleKey], divisor: int, budget: Budget, cores: int
) -> WorkerCount:
    """Load a few samples by the clock and compare with what training them takes.

    Args:
        dataset: to load from.
        keys: of a pass; at least one. As many are loaded as are done within a second, 8 at most.
        divisor: of the sizes of batches.
        budget: measures training.
        cores: at most as many processes.

    Raises:
        UserError: an image cannot be used.
    """
    samples = [dataset[keys[0]]]  # the first one pays for what is loaded once
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)  # as in a worker
    torch.set_num_threads(1)
    try:
        start = time.perf_counter()
        for key in (*keys[1:SAMPLES], keys[0]):
            samples.append(dataset[key])
            if time.perf_counter() - start > SECONDS:
                break
        batch = collate(samples, divisor)
        load = (time.perf_counter() - start) / (len(samples) - 1)
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    step = budget(batch, len(keys))
    return WorkerCount(needed_workers(load, step, len(keys), cores), load, step, len(keys), cores)


def cores_here() -> int:
    """Processor cores that each training process on this machine can use, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)
