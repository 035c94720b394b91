"""A training step, or a batch of predictions, beside the other library's, from the same weights."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from backbones.errors import UserError
from tasks.allocator import keep_freed_memory, return_freed_memory
from tasks.benchmark.accelerator import device, finished, peak_memory
from tasks.benchmark.arguments import BenchmarkArguments, WorkloadName
from tasks.benchmark.choice import OURS, choose
from tasks.benchmark.floor import convolution_rate
from tasks.benchmark.process_memory import ProcessDied, in_own_process, mebibytes
from tasks.benchmark.table import Table
from tasks.benchmark.timing import disturbed, interleave
from tasks.benchmark.workloads import PRECISIONS, WORKLOADS, contestants, library
from tasks.device import multiplies_bf16
from tasks.multiply_adds import multiply_adds
from tasks.progress import Reporter

RUNS = 7
MEMORY_STEPS = 3


def compare_models(arguments: BenchmarkArguments, reporter: Reporter) -> list[Table]:
    """A table for each workload."""
    return [_compare(name, arguments, reporter) for name in workloads_of(arguments)]


def workloads_of(arguments: BenchmarkArguments) -> list[WorkloadName]:
    """That which was asked for, or else all of the libraries that were, or else detection."""
    if arguments.workload is not None or not arguments.peer:
        return [arguments.workload or "detection"]
    libraries = {name: library(name) for name in WORKLOADS}
    choose({each: each for each in libraries.values()}, arguments.peer, ())
    return [name for name, each in libraries.items() if each in arguments.peer] or ["detection"]


def _compare(workload: WorkloadName, arguments: BenchmarkArguments, reporter: Reporter) -> Table:
    builders = contestants(workload, arguments.batch, arguments.side)
    library_of = {name: OURS if name in PRECISIONS else library(workload) for name in builders}
    peers = [peer for peer in arguments.peer if arguments.workload or peer in library_of.values()]
    names = choose(library_of, peers, arguments.only)
    runs = arguments.runs or RUNS
    with tempfile.TemporaryDirectory() as temporary:
        calls: dict[str, Callable[[], object]] = {}
        losses = {}
        for name in names:
            folder = Path(temporary) / str(len(calls))
            folder.mkdir()
            built = builders[name](folder)
            losses[name] = built.loss()
            run = finished(built.train if arguments.what == "train" else built.infer)
            calls[name] = _with_its_allocator(run, name in PRECISIONS)
        timings = interleave(calls, runs, arguments.warmup, reporter)
        precisions = {name: _precision(name) for name in names}
        rates = {precision: convolution_rate(precision) for precision in set(precisions.values())}
        floors = {name: timings[name].median * rates[precisions[name]] / multiply_adds(calls[name]) for name in names}
    rows, figures = [], []
    for name in names:
        timing = timings[name]
        peak, added = _memory(workload, name, arguments) if arguments.memory else (None, None)
        rows.append(
            (
                name,
                f"{1000 * timing.median:,.0f}",
                f"{1000 * timing.least:,.0f}",
                f"{timing.spread:.0%}",
                f"{timing.median / timings[names[0]].median:.2f}",
                mebibytes(peak),
                mebibytes(added),
                f"{floors[name]:.1f}",
                f"{losses[name]:.3f}",
            )
        )
        figures.append(
            {
                "name": name,
                "seconds": timing.median,
                "spread": timing.spread,
                "runs": timing.seconds,
                "peak_bytes": peak,
                "step_bytes": added,
                "floor": floors[name],
                "loss": losses[name],
            }
        )
    notes = [
        f"ratio: to {names[0]}; steps MiB: memory that steps add once all is built; floor: times what the "
        "multiply-adds take at the rate of a large convolution; loss: of the batch, before any step",
        "all are timed in one process; freed memory stays there in runs of ours (tasks/allocator.py) and goes back to "
        "the system in those of the others, as in processes of their own",
        *disturbed(timings),
    ]
    work = WORKLOADS[workload]
    side = arguments.side or work.side
    size = f"{arguments.batch or work.batch} x {side} x {side}"
    title = f"{arguments.what}, {workload}: {size}; medians of {runs} runs, in turn"
    columns = ("", "ms", "min ms", "spread", "ratio", "peak MiB", "steps MiB", "floor", "loss")
    return Table(title, columns, rows, figures, notes)


def _with_its_allocator(run: Callable[[], object], ours: bool) -> Callable[[], object]:
    """On a CPU our runner lets its process keep freed memory; the others' users have the system's default."""
    choose_allocator = keep_freed_memory if ours and device().type == "cpu" else return_freed_memory

    def call() -> object:
        choose_allocator()
        return run()

    return call


def _memory(workload: WorkloadName, name: str, arguments: BenchmarkArguments) -> tuple[int, int]:
    """Bytes that a process of its own holds at most, and those that steps add: gradients, activations, the optimizer's
    state."""
    try:
        peak, before = in_own_process(
            measure_memory, workload, name, arguments.what == "train", arguments.batch, arguments.side
        )
    except ProcessDied:
        raise UserError(f"{name}: its process was killed, for lack of memory most likely; lower --batch") from None
    return peak, peak - before


def measure_memory(
    workload: WorkloadName, name: str, train: bool, batch: int | None, side: int | None
) -> tuple[int, int]:
    """The most bytes that this process has held after a few steps, and before them."""
    with tempfile.TemporaryDirectory() as folder:
        built = contestants(workload, batch, side)[name](Path(folder))
        before = peak_memory()
        for _ in range(MEMORY_STEPS):
            built.train() if train else built.infer()
        return peak_memory(), before


def _precision(name: str) -> torch.dtype:
    """In which a contestant multiplies."""
    bf16 = "bf16" in name or (PRECISIONS.get(name) == "auto" and multiplies_bf16(device().type))
    return torch.bfloat16 if bf16 else torch.float32
