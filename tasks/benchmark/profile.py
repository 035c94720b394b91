"""Where the time of our training step and of our predictions goes, by stage and by operator."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from tasks.benchmark.accelerator import finished
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.benchmark.stages import REST, StageClock, clocked, in_order
from tasks.benchmark.subject import Subject
from tasks.benchmark.table import Table
from tasks.benchmark.timing import Timing, disturbed
from tasks.progress import Reporter

RUNS = 7
OPERATORS = 15


def profile_stages(arguments: BenchmarkArguments, reporter: Reporter) -> list[Table]:
    """Stages and operators of a training step, then of predictions."""
    subject = Subject.named(arguments)
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        ours = subject.build(arguments.batch, Path(folder))
        title = f"{subject}, batch {len(ours.batch)}"
        for what, call in (("a training step", finished(ours.train)), ("predictions", finished(ours.infer))):
            with clocked(ours.runner) as clock:
                runs = _run(call, clock, arguments.runs or RUNS, arguments.warmup, reporter)
            tables += [_stage_table(f"profile, {title}: stages of {what}", runs)]
            tables += [_operator_table(f"profile, {title}: operators of {what}", call)]
    return tables


def _run(
    call: Callable[[], object], clock: StageClock, runs: int, warmup: int, reporter: Reporter
) -> list[dict[str, float]]:
    """Seconds by stage of each run."""
    taken = []
    for number in reporter.track(range(warmup + runs), warmup + runs, "runs"):
        with clock.stage(REST):
            call()
        if number >= warmup:
            taken.append(clock.take())
        else:
            clock.take()
    return taken


def _stage_table(title: str, runs: list[dict[str, float]]) -> Table:
    whole = Timing(tuple(sum(run.values()) for run in runs))
    names = in_order({name for run in runs for name in run})
    timings = {name: Timing(tuple(run.get(name, 0.0) for run in runs)) for name in names}
    rows, figures = [], []
    for name, timing in {**timings, "all": whole}.items():
        share = timing.median / whole.median
        rows.append((name, f"{1000 * timing.median:,.1f}", f"{1000 * timing.least:,.1f}", f"{share:.1%}"))
        figures.append({"name": name, "seconds": timing.median, "share": share, "runs": timing.seconds})
    notes = [
        f"medians of {len(runs)} runs; a stage inside of another counts for itself alone; share: of the median of all",
        *disturbed({"all": whole}),
    ]
    return Table(title, ("", "ms", "min ms", "share"), rows, figures, notes)


def _operator_table(title: str, call: Callable[[], object]) -> Table:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it tells its own beginning and end
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * torch.cuda.is_available()]
    with torch.profiler.profile(activities=activities) as profiler:
        call()
    seconds: Callable[[Any], float] = _device_seconds if torch.cuda.is_available() else _host_seconds
    operators = sorted(profiler.key_averages(), key=seconds, reverse=True)
    total = sum(map(seconds, operators))
    rows, figures = [], []
    for operator in operators[:OPERATORS]:
        own = seconds(operator)
        rows.append((operator.key, f"{1000 * own:,.1f}", f"{own / total:.1%}", str(operator.count)))
        figures.append({"name": operator.key, "seconds": own, "share": own / total, "count": operator.count})
    note = f"self time of one run under torch.profiler, which slows it down: {1000 * total:,.0f} ms in all operators"
    return Table(title, ("", "ms", "share", "calls"), rows, figures, [note])


def _host_seconds(operator: Any) -> float:
    return float(operator.self_cpu_time_total) / 1e6


def _device_seconds(operator: Any) -> float:
    return float(operator.self_device_time_total) / 1e6
