"""Runs what `tools/benchmark.py` asks for, and tells it as a table and as json."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from backbones.errors import UserError
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.benchmark.floor import convolution_rate
from tasks.benchmark.machine import describe_machine
from tasks.benchmark.memory import peak_memory
from tasks.benchmark.timing import interleave
from tasks.benchmark.workloads import OURS, contestants
from tasks.device import multiplies_bf16
from tasks.multiply_adds import multiply_adds
from tasks.output import write_whole
from tasks.progress import Reporter

# What a user waits for before anything happens, and the imports that peers begin with.
STARTS = {
    "polyhead train --help": "import sys; from tasks.cli import run, train; sys.exit(run(train, ['--help']))",
    "import tasks.training": "import tasks.training",
    "import torch": "import torch",
    "import torchvision": "import torchvision",
    "import timm": "import timm",
    "import segmentation_models_pytorch": "import segmentation_models_pytorch",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant's figures.

    Attributes:
        name: of the contestant.
        seconds: median of its runs.
        spread: half the distance of the quartiles over the median.
        runs: every run's seconds.
        peak_bytes: of memory; None where it was not measured.
        step_bytes: of those, what came on top once all was built.
        loss: of the batch before any step; None where there is none.
        floor: seconds over those of its multiply-adds at the rate of a large convolution; None where it has none.
    """

    name: str
    seconds: float
    spread: float
    runs: tuple[float, ...]
    peak_bytes: int | None = None
    step_bytes: int | None = None
    floor: float | None = None
    loss: float | None = None


def benchmark(arguments: BenchmarkArguments) -> list[Row]:
    """Measure, print the table, write the json, and return the rows in the order of the table.

    Raises:
        UserError: a contestant that is none, or numbers that make no sense.
    """
    for option, least in (("runs", 1), ("warmup", 0), ("batch", 1), ("side", 1)):
        value = getattr(arguments, option)
        if value is not None and value < least:
            raise UserError(f"--{option} is {value}; expected at least {least}")
    reporter, machine = Reporter(), describe_machine()
    rows = _startup(arguments, reporter) if arguments.what == "startup" else _models(arguments, reporter)
    first = rows[0].seconds
    title = arguments.what if arguments.what == "startup" else f"{arguments.what}, {arguments.workload}"
    reporter.table(
        f"{title}: medians of {arguments.runs} runs, in turn",
        ("", "ms", "spread", "ratio", "peak MiB", "steps MiB", "floor", "loss"),
        [
            (
                row.name,
                f"{1000 * row.seconds:,.0f}",
                f"{row.spread:.0%}",
                f"{row.seconds / first:.2f}",
                _mebibytes(row.peak_bytes),
                _mebibytes(row.step_bytes),
                "-" if row.floor is None else f"{row.floor:.1f}",
                "-" if row.loss is None else f"{row.loss:.3f}",
            )
            for row in rows
        ],
    )
    reporter.say(
        f"ratio: to {rows[0].name}; steps MiB: memory that steps add once all is built; floor: times what the "
        "multiply-adds take at the rate of a large convolution; loss: of the batch, before any step"
    )
    reporter.say(", ".join(f"{key} {value}" for key, value in machine.items()))
    if arguments.out is not None:
        what = {**asdict(arguments), "out": str(arguments.out)}
        content = {"machine": machine, "arguments": what, "rows": [asdict(row) for row in rows]}
        write_whole(arguments.out, lambda file: file.write_text(json.dumps(content, indent=1), encoding="utf-8"))
        reporter.say(f"written to {arguments.out}")
    return rows


def _models(arguments: BenchmarkArguments, reporter: Reporter) -> list[Row]:
    builders = contestants(arguments.workload, arguments.batch, arguments.side)
    unknown = [name for name in arguments.only if name not in builders]
    if unknown:
        raise UserError(f"--only: {unknown[0]!r} is no contestant; expected some of {', '.join(map(repr, builders))}")
    names = arguments.only or tuple(builders)
    with tempfile.TemporaryDirectory() as temporary:
        calls: dict[str, Callable[[], object]] = {}
        losses = {}
        for name in names:
            folder = Path(temporary) / str(len(calls))
            folder.mkdir()
            built = builders[name](folder)
            losses[name] = built.loss()
            calls[name] = built.train if arguments.what == "train" else built.infer
        timings = interleave(calls, arguments.runs, arguments.warmup, reporter)
        precisions = {name: _precision(name) for name in names}
        rates = {precision: convolution_rate(precision) for precision in set(precisions.values())}
        floors = {name: timings[name].median * rates[precisions[name]] / multiply_adds(calls[name]) for name in names}
    rows = []
    for name in names:
        peak, before = (None, 0)
        if arguments.memory:
            peak, before = peak_memory(arguments.workload, name, arguments.what, arguments.batch, arguments.side)
        rows.append(
            Row(
                name,
                timings[name].median,
                timings[name].spread,
                timings[name].seconds,
                peak,
                None if peak is None else peak - before,
                floors[name],
                losses[name],
            )
        )
    return rows


def _precision(name: str) -> torch.dtype:
    """In which a contestant multiplies."""
    bf16 = "bf16" in name or (OURS.get(name) == "auto" and multiplies_bf16("cpu"))
    return torch.bfloat16 if bf16 else torch.float32


def _startup(arguments: BenchmarkArguments, reporter: Reporter) -> list[Row]:
    root = Path(__file__).resolve().parents[2]

    def start(code: str) -> Callable[[], object]:
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}"]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    calls = {name: start(code) for name, code in STARTS.items()}
    timings = interleave(calls, arguments.runs, arguments.warmup, reporter)
    return [Row(name, each.median, each.spread, each.seconds) for name, each in timings.items()]


def _mebibytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**20:,.0f}"
