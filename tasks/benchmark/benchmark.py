"""Runs what `tools/benchmark.py` asks for, and tells it as tables, as json and as markdown."""

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tasks.benchmark.arguments import Activity, BenchmarkArguments, require_sense
from tasks.benchmark.evaluation import compare_evaluators
from tasks.benchmark.fit import find_largest_batches
from tasks.benchmark.heads import compare_heads
from tasks.benchmark.loading import compare_loading
from tasks.benchmark.models import compare_models
from tasks.benchmark.profile import profile_stages
from tasks.benchmark.startup import measure_startup
from tasks.benchmark.table import Table, as_markdown
from tasks.machine import describe_machine
from tasks.output import write_whole
from tasks.progress import Reporter

ACTIVITIES: dict[Activity, Callable[[BenchmarkArguments, Reporter], list[Table]]] = {
    "train": compare_models,
    "infer": compare_models,
    "profile": profile_stages,
    "fit": find_largest_batches,
    "eval": compare_evaluators,
    "data": compare_loading,
    "heads": compare_heads,
    "startup": measure_startup,
}


def benchmark(arguments: BenchmarkArguments) -> list[Table]:
    """Measure, print the tables, write what was asked for, and return the tables.

    Raises:
        UserError: a contestant that is none, or options that make no sense.
    """
    require_sense(arguments)
    reporter, machine = Reporter(), describe_machine()
    tables = ACTIVITIES[arguments.what](arguments, reporter)
    for table in tables:
        table.show(reporter)
    reporter.say(", ".join(f"{key} {value}" for key, value in machine.items()))
    if arguments.out is not None:
        what = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(arguments).items()}
        described = [{"title": table.title, "rows": table.figures, "notes": table.notes} for table in tables]
        content = {"machine": machine, "arguments": what, "tables": described}
        _write(arguments.out, json.dumps(content, indent=1), reporter)
    if arguments.markdown is not None:
        _write(arguments.markdown, as_markdown(tables, machine, _command(arguments)), reporter)
    return tables


def _command(arguments: BenchmarkArguments) -> str:
    """What to type to measure the same again."""
    words: list[str] = [arguments.what]
    default = BenchmarkArguments(arguments.what)
    for name, value in vars(arguments).items():
        if value == getattr(default, name) or name in ("out", "markdown"):
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", *map(str, value if isinstance(value, tuple) else (value,))]
    return f"python tools/benchmark.py {shlex.join(words)}"


def _write(file: Path, content: str, reporter: Reporter) -> None:
    write_whole(file, lambda beside: beside.write_text(content, encoding="utf-8"))
    reporter.say(f"written to {file}")
