"""What a run costs: time, processor time and memory of its main process and its loaders."""

import contextlib
import sys
import time

import psutil
import torch

# Windows has no such module.
if sys.platform != "win32":
    import resource


class CostMeter:
    """Counts from its making on.

    Args:
        device: whose memory is looked at, beside the main one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._started, self._cpu = device, time.monotonic(), _cpu_seconds()

    def read(self) -> dict[str, float]:
        """`seconds` and `cpu_seconds` since the start, and the peaks `memory` and, on CUDA, `gpu_memory` in bytes.

        Processor time is that of this process and all that it has started; memory is that of this process.
        """
        cost = {"seconds": time.monotonic() - self._started}
        if sys.platform != "win32":
            cost["cpu_seconds"] = _cpu_seconds() - self._cpu
            unit = 1 if sys.platform == "darwin" else 1024
            cost["memory"] = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
        if self._device.type == "cuda":
            cost["gpu_memory"] = float(torch.cuda.max_memory_allocated(self._device))
        return cost


def _cpu_seconds() -> float:
    if sys.platform == "win32":
        return 0.0
    used = [resource.getrusage(kind) for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(own.ru_utime + own.ru_stime for own in used)
    for child in psutil.Process().children(recursive=True):  # the loaders that live; those that ended are in `used`
        with contextlib.suppress(psutil.Error):
            times = child.cpu_times()
            seconds += times.user + times.system
    return seconds
