"""Processes of their own, and what they hold."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backbones import UserError
from tasks.benchmark.process_memory import (
    ProcessDied,
    available_bytes,
    forget_peak,
    held_bytes,
    in_own_process,
    parse_bytes,
    peak_bytes,
)

ROOT = Path(__file__).resolve().parents[3]
LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells memory by /proc")


def test_calls_are_made_elsewhere() -> None:
    assert in_own_process(os.getpid) != os.getpid()
    with pytest.raises(ProcessDied, match="_exit was killed"):
        in_own_process(os._exit, 1)


@LINUX
def test_peak_counts_from_when_it_is_forgotten() -> None:
    block = mmap.mmap(-1, 64 << 20)  # what is freed otherwise may stay with the allocator
    block.write(b"x" * len(block))
    assert peak_bytes() >= held_bytes() >= 64 << 20
    before = held_bytes()
    block.close()
    forget_peak()
    assert peak_bytes() < before - (48 << 20)
    assert 0 < held_bytes() <= peak_bytes()


@LINUX
@pytest.mark.parametrize(("limit", "survives"), [(100 << 20, False), (1 << 40, True)])
def test_a_process_that_holds_too_much_ends(limit: int, survives: bool) -> None:
    code = (
        "import time; from tasks.benchmark.process_memory import end_above\n"
        f"end_above({limit}); block = bytearray(b'x') * (200 << 20); time.sleep(0.5); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode == 0, "alive" in done.stdout) == (survives, survives), done.stderr


def test_available_memory_is_some() -> None:
    assert 1 << 20 < available_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_sizes_are_read() -> None:
    expected = {"8GiB": 8 << 30, "500 MB": 500_000_000, "1.5gib": 3 << 29, "1e9": 10**9, "7b": 7, "64KiB": 1 << 16}
    assert {text: parse_bytes(text) for text in expected} == expected
    for wrong in ("", "GiB", "8 GiX", "-1GB", "0", "inf", "nan"):
        with pytest.raises(UserError, match="expected a size above 0"):
            parse_bytes(wrong)
