"""Memory that a step frees is kept for the next one.

glibc gives large blocks back to the system as soon as they are free, and the system clears every page of them when it
hands them out again: tens of thousands of page faults a training step on a CPU. PyTorch caches freed memory on
accelerators, but not here.
"""

import ctypes
import os
import sys

# glibc's malloc.h; both take a number of bytes as a C int.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST = 2**31 - 1
# What glibc's own thresholds grow to in a process that frees large blocks, as training does.
GROWN_MMAP_THRESHOLD, GROWN_TRIM_THRESHOLD = 32 << 20, 64 << 20


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, until it ends; whether that could be arranged.

    Only glibc needs and knows it. Whoever has tuned the allocator by environment variables is left alone.
    """
    return _set_thresholds(trim=MOST, mmap=MOST)


def return_freed_memory() -> bool:
    """The opposite: what a process does that has called none of these; for comparisons with such a one."""
    return _set_thresholds(trim=GROWN_TRIM_THRESHOLD, mmap=GROWN_MMAP_THRESHOLD)


def _set_thresholds(trim: int, mmap: int) -> bool:
    if not sys.platform.startswith("linux") or any(
        name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ
    ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Other C libraries have a mallopt that knows neither and answers 0.
    return mallopt is not None and all(
        mallopt(parameter, value) == 1 for parameter, value in ((M_TRIM_THRESHOLD, trim), (M_MMAP_THRESHOLD, mmap))
    )
