"""Peak memory of one contestant, in a process of its own: in a shared one, the largest would hide the others."""

import multiprocessing
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tasks.benchmark.arguments import WorkloadName

STEPS = 3


def peak_memory(name: WorkloadName, contestant: str, what: str, batch: int | None, side: int | None) -> tuple[int, int]:
    """Bytes that a process holds at most while it trains or predicts, and those it held just before.

    The difference is what steps need beside the weights: gradients, activations and the optimizer's state.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, name, contestant, what, batch, side).result()


def _measure(name: WorkloadName, contestant: str, what: str, batch: int | None, side: int | None) -> tuple[int, int]:
    from tasks.benchmark.workloads import contestants

    with tempfile.TemporaryDirectory() as folder:
        built = contestants(name, batch, side)[contestant](Path(folder))
        before = _peak()
        for _ in range(STEPS):
            built.train() if what == "train" else built.infer()
        return _peak(), before


def _peak() -> int:
    status = Path("/proc/self/status")
    if not status.exists():  # macOS, which counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not ru_maxrss, which a process inherits from the one that started it.
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
