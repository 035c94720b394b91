"""The device that is measured, by the clock and in memory: a GPU works behind the back of the program."""

from collections.abc import Callable

import torch

from tasks.benchmark.process_memory import peak_bytes


def device() -> torch.device:
    """Where all contestants run: CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def finished(call: Callable[[], object]) -> Callable[[], None]:
    """The call, and then a wait until the device has done what it was given."""

    def finish() -> None:
        call()
        synchronise()

    return finish


def synchronise() -> None:
    """Wait until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory() -> int:
    """The most bytes that this process has held: on the GPU where there is one, else in main memory."""
    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else peak_bytes()
