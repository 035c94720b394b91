"""The COCO metric against the evaluators that people would use otherwise, on equal detections."""

import importlib.util
import statistics
import tempfile
from pathlib import Path

from backbones.errors import UserError
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.benchmark.choice import choose
from tasks.benchmark.coco_case import write_boxes, write_masks
from tasks.benchmark.evaluators import MODULES, PYCOCOTOOLS, Case, Evaluated, evaluate
from tasks.benchmark.process_memory import in_own_process, mebibytes
from tasks.benchmark.table import Table
from tasks.benchmark.timing import Timing, disturbed
from tasks.progress import Reporter

IMAGES = {"bbox": 5000, "segm": 500}
NAMES = {"bbox": "boxes", "segm": "masks"}
RUNS = 3


def compare_evaluators(arguments: BenchmarkArguments, reporter: Reporter) -> list[Table]:
    """A table of boxes and one of masks."""
    names = choose({name: name for name in MODULES}, arguments.peer, arguments.only)
    missing = [name for name in names if importlib.util.find_spec(MODULES[name]) is None]
    for name in missing:
        reporter.say(f"{name} is not installed and left out; pip install {name} to compare with it")
    names = [name for name in names if name not in missing]
    if not names:
        raise UserError(f"none of {', '.join(missing)} is installed; expected at least one evaluator that is")
    runs = arguments.runs or RUNS
    tables = []
    with tempfile.TemporaryDirectory() as temporary:
        for kind, write in (("bbox", write_boxes), ("segm", write_masks)):
            case = write(Path(temporary), arguments.images or IMAGES[kind])
            small = write(Path(temporary), 4)
            found: dict[str, list[Evaluated]] = {name: [] for name in names}
            rounds = [name for _ in range(runs) for name in names]
            for name in reporter.track(rounds, len(rounds), f"evaluations of {NAMES[kind]}"):
                found[name].append(in_own_process(evaluate, name, case, small))
            tables.append(table_of(case, found))
    return tables


def table_of(case: Case, found: dict[str, list[Evaluated]]) -> Table:
    timings = {name: Timing(tuple(one.seconds for one in each)) for name, each in found.items()}
    own = {name: statistics.median(one.own_bytes for one in each) for name, each in found.items()}
    whole = {name: statistics.median(one.peak_bytes for one in each) for name, each in found.items()}
    reference = PYCOCOTOOLS if PYCOCOTOOLS in found else next(iter(found))
    expected = found[reference][0].numbers
    first = next(iter(found))
    rows, figures = [], []
    for name, each in found.items():
        timing = timings[name]
        distance = max(abs(a - b) for one in each for a, b in zip(one.numbers, expected, strict=True))
        equal = "reference" if name == reference else "all equal" if not distance else f"differ by {distance:.1g}"
        rows.append(
            (
                name,
                f"{timing.median:,.2f}",
                f"{timing.least:,.2f}",
                f"{timing.spread:.0%}",
                f"{timing.median / timings[first].median:,.1f}",
                mebibytes(round(own[name])),
                f"{own[name] / own[first]:,.1f}" if own[first] else "-",
                mebibytes(round(whole[name])),
                equal,
            )
        )
        figures.append(
            {
                "name": name,
                "seconds": timing.median,
                "spread": timing.spread,
                "runs": timing.seconds,
                "own_bytes": own[name],
                "peak_bytes": whole[name],
                "numbers": each[0].numbers,
                "furthest_from_reference": distance,
            }
        )
    start = "files" if case.kind == "segm" else "annotations and detections in memory"
    notes = [
        f"from {start} to the 12 numbers; ratio and memory ratio: to {first}; own MiB: what the evaluation added; "
        "whole MiB: with interpreter and libraries (ours has torch, as every training run)",
        f"12 numbers: against those of {reference}, every run, to the last bit; its AP is {expected[0]:.4f}",
        *disturbed(timings),
    ]
    runs = len(found[first])
    counted = f"{case.images:,} images, {case.boxes:,} annotated, {case.detections:,} detections"
    title = f"eval, {NAMES[case.kind]}: {counted}; medians of {runs} runs, in turn, each in a process of its own"
    columns = ("", "s", "min s", "spread", "ratio", "own MiB", "memory ratio", "whole MiB", "12 numbers")
    return Table(title, columns, rows, figures, notes)
