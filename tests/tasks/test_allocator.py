"""Freed memory that stays with the process."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from tasks import allocator
kept = allocator.CHOICE()
for number in range(20):  # the first ones find holes that are a little too small
    if number == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = torch.empty(1 << 26, dtype=torch.uint8).fill_(1)
    del block
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_blocks_come_back_without_page_faults() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    kept, faults = run(plain)
    _, returned_faults = run(plain, "return_freed_memory")
    assert int(returned_faults) > 10 * 100
    assert kept == "True"
    assert int(faults) < 10 * 100
    # One who has tuned it is left alone, and sees all 16,384 pages of a block each time (fewer where pages are large).
    kept, tuned_faults = run({**plain, "MALLOC_MMAP_THRESHOLD_": "65536"})
    assert kept == "False"
    assert int(tuned_faults) > int(faults)


def run(environment: dict[str, str], choice: str = "keep_freed_memory") -> list[str]:
    code = FAULTS.replace("CHOICE", choice)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()
