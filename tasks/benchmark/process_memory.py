"""Calls in a process of their own, and the memory that such a process holds: in a shared one the largest contestant
would hide the others."""

import contextlib
import multiprocessing
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import ParamSpec, TypeVar

from backbones.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")
STATUS = Path("/proc/self/status")
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class ProcessDied(Exception):
    """A process that ended before its call did: for lack of memory, as a rule."""


def in_own_process(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Call a function of a module in a new process that has nothing imported.

    Raises:
        ProcessDied: it was killed.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(function, *arguments, **options).result()
        except BrokenProcessPool as error:
            raise ProcessDied(f"the process of {getattr(function, '__name__', function)} was killed") from error


def peak_bytes() -> int:
    """The most memory that this process has held, since `forget_peak` where there is such a thing."""
    if not STATUS.exists():
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024
    # Not ru_maxrss, which a process inherits from the one that started it.
    return _status("VmHWM")


def held_bytes() -> int:
    """The memory that this process holds now; where the system does not tell, the most it has held."""
    return _status("VmRSS") if STATUS.exists() else peak_bytes()


def forget_peak() -> None:
    """Let the peak count from now on, where Linux allows that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def available_bytes() -> int:
    """Memory that a new process could take without pushing another one out: of the machine, or of its container."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = meminfo.read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (most := limit.read_text(encoding="ascii").strip()) != "max":
        free = min(free, int(most) - int(used.read_text(encoding="ascii")))
    return free


def end_above(limit: int) -> None:
    """From now on, end this process at once when it holds more than `limit` bytes, well before the machine runs short.

    Should that happen nevertheless, the system is to end this process and no other.
    """
    with contextlib.suppress(OSError):  # not on every system
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")

    def watch() -> None:
        while held_bytes() <= limit:
            time.sleep(0.005)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def parse_bytes(text: str) -> int:
    """8GiB, 500 MB or 1e9 as a number of bytes.

    Raises:
        UserError: it is none.
    """
    number = text.strip().lower().rstrip("ib kmg")
    unit = text.strip().lower()[len(number) :].strip() or "b"
    try:
        count = int(float(number) * UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        count = 0
    if count <= 0:
        raise UserError(f"--memory-limit is {text!r}; expected a size above 0 such as 8GiB or 500MB")
    return count


def mebibytes(count: int | None) -> str:
    """As a table shows it."""
    return "-" if count is None else f"{count / 2**20:,.0f}"


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
