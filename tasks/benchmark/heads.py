"""Several heads on one backbone beside a model for each of them: what predictions take, and what memory."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from backbones.errors import UserError
from tasks.allocator import keep_freed_memory
from tasks.benchmark.accelerator import device, finished, peak_memory
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.benchmark.ours import Ours, from_config
from tasks.benchmark.process_memory import ProcessDied, in_own_process, mebibytes
from tasks.benchmark.table import Table
from tasks.benchmark.timing import disturbed, interleave
from tasks.config import Experiment
from tasks.experiment_file import read_experiment
from tasks.head_choice import keep_heads
from tasks.progress import Reporter

RUNS = 7
TOGETHER, IN_TURN = "all heads, one pass", "a model for each, in turn"
Models = list[tuple[str, ...]]  # the heads of each


def compare_heads(arguments: BenchmarkArguments, reporter: Reporter) -> list[Table]:
    """Predictions of a batch by all heads of a config at once, by a model for each one after another, and by each.

    Raises:
        UserError: no config with several heads was given.
    """
    config = arguments.config
    if config is None:
        raise UserError("heads compares those of a config; give one, such as --config configs/multi/cells_r18.py")
    heads = list(read_experiment(config).experiment.heads)
    if len(heads) < 2:
        raise UserError(
            f"--config {config} has the heads {', '.join(heads) or 'none'}; expected two or more to compare"
        )
    contestants: dict[str, Models] = {TOGETHER: [tuple(heads)], IN_TURN: [(head,) for head in heads]}
    contestants |= {head: [(head,)] for head in heads}
    runs = arguments.runs or RUNS
    if device().type == "cpu":
        keep_freed_memory()  # as a run does
    with tempfile.TemporaryDirectory() as folder:
        built = {name: _build(arguments, own, Path(folder) / name) for name, own in contestants.items()}
        batch = built[TOGETHER][0].batch
        calls = {
            name: finished(_predictions([replace(own, batch=batch) for own in models]))
            for name, models in built.items()
        }
        timings = interleave(calls, runs, arguments.warmup, reporter)
    rows, figures = [], []
    for name, models in contestants.items():
        timing, peak = timings[name], _memory(arguments, models) if arguments.memory else None
        ratio = f"{timing.median / timings[TOGETHER].median:.2f}"
        milliseconds = (f"{1000 * seconds:,.0f}" for seconds in (timing.median, timing.least))
        rows.append((name, *milliseconds, f"{timing.spread:.0%}", ratio, mebibytes(peak)))
        figures.append({"name": name, "seconds": timing.median, "runs": timing.seconds, "peak_bytes": peak})
    height, width = batch.sizes.padded
    title = f"heads, {config}: predictions of {len(batch)} x {height} x {width}; medians of {runs} runs, in turn"
    notes = [f"ratio: to {TOGETHER}; peak MiB: of a process that builds and uses nothing else", *disturbed(timings)]
    return [Table(title, ("", "ms", "min ms", "spread", "ratio", "peak MiB"), rows, figures, notes)]


def measure_memory(arguments: BenchmarkArguments, models: Models) -> int:
    """The most bytes that this process has held after models of these heads have predicted."""
    with tempfile.TemporaryDirectory() as folder:
        _predictions(_build(arguments, models, Path(folder)))()
        return peak_memory()


def _build(arguments: BenchmarkArguments, models: Models, folder: Path) -> list[Ours]:
    """A model of each of some lists of heads."""
    assert arguments.config is not None
    built = []
    for heads in models:

        def change(config: Experiment, heads: tuple[str, ...] = heads) -> None:
            kept = keep_heads(config, heads)
            config.heads, config.data, config.losses = kept.heads, kept.data, kept.losses

        own = folder / "_".join(heads)
        own.mkdir(parents=True)
        built.append(from_config(arguments.config, arguments.root, arguments.batch, own, change))
    return built


def _predictions(models: list[Ours]) -> Callable[[], object]:
    return lambda: [model.infer() for model in models]


def _memory(arguments: BenchmarkArguments, models: Models) -> int:
    try:
        return in_own_process(measure_memory, arguments, models)
    except ProcessDied:
        raise UserError("a process was killed, for lack of memory most likely; lower --batch") from None
