"""What a person waits for before anything happens: commands, the first training step, and the imports of peers."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from backbones.errors import UserError
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.benchmark.choice import OURS, choose
from tasks.benchmark.table import Table
from tasks.benchmark.timing import Timing, disturbed, interleave
from tasks.data.formats.cells import write_cells
from tasks.progress import Reporter

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/det/bccd_faster_rcnn_r18_fpn.py"
HELP, IMPORT, FIRST_STEP = f"{OURS} train --help", "import tasks.training", f"{OURS} train, to its first step"
# What each imports, and whose that is.
IMPORTS = {
    IMPORT: ("tasks.training", OURS),
    "import torch": ("torch", "torch"),
    "import torchvision": ("torchvision", "torchvision"),
    "import timm": ("timm", "timm"),
    "import segmentation_models_pytorch": ("segmentation_models_pytorch", "smp"),
}
TARGETS = {HELP: 1.0, FIRST_STEP: 10.0}  # seconds
RUNS, STEP_RUNS = 7, 3


def measure_startup(arguments: BenchmarkArguments, reporter: Reporter) -> list[Table]:
    """One table; the runs of the command that trains, which take longest, are fewer by default."""
    library_of = {HELP: OURS, FIRST_STEP: OURS, **{name: whose for name, (_, whose) in IMPORTS.items()}}
    names = choose(library_of, arguments.peer, arguments.only)
    short: dict[str, Callable[[], object]] = {HELP: _started("tools/train.py", "--help")}
    short |= {name: _started("-c", f"import {module}") for name, (module, _) in IMPORTS.items()}
    with tempfile.TemporaryDirectory() as temporary:
        data = _data(arguments.root, Path(temporary)) if FIRST_STEP in names else []
        long: dict[str, Callable[[], object]] = {FIRST_STEP: lambda: _train_one_step(data)}
        timings: dict[str, Timing] = {}
        for calls, runs, warmup in (
            (short, arguments.runs or RUNS, arguments.warmup),
            (long, arguments.runs or STEP_RUNS, min(arguments.warmup, 1)),
        ):
            chosen = {name: call for name, call in calls.items() if name in names}
            timings |= interleave(chosen, runs, warmup, reporter) if chosen else {}
    first = timings[names[0]]
    rows, figures = [], []
    for name in names:
        timing, target = timings[name], TARGETS.get(name)
        met = "-" if target is None else f"< {target:g} s, {'met' if timing.median < target else 'missed'}"
        rows.append(
            (
                name,
                f"{1000 * timing.median:,.0f}",
                f"{1000 * timing.least:,.0f}",
                f"{timing.spread:.0%}",
                f"{timing.median / first.median:.2f}",
                str(len(timing.seconds)),
                met,
            )
        )
        figures.append(
            {"name": name, "seconds": timing.median, "spread": timing.spread, "runs": timing.seconds, "target": target}
        )
    given = str(arguments.root) if arguments.root else "generated blood cells"
    notes = [
        f"ratio: to {names[0]}; the command that trains is python tools/train.py {CONFIG}, from random weights, on "
        f"{given}, until it tells that its first step is done",
        *disturbed(timings),
    ]
    columns = ("", "ms", "min ms", "spread", "ratio", "runs", "target")
    return [Table("startup: medians, in turn, each in a process of its own", columns, rows, figures, notes)]


def _started(*words: str) -> Callable[[], object]:
    """Python called from the root of this checkout, to its end."""
    return lambda: subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)


def _data(root: Path | None, folder: Path) -> list[str]:
    if root is not None:
        return ["--data.root", str(root.resolve())]
    cells = write_cells(folder, train=40, val=8, size=320)
    return ["--data.root", str(cells), "--data.train", "train", "--data.val", "val"]


def _train_one_step(data: list[str]) -> None:
    """From the command to the line that tells its first step; then the run is stopped, unsaved."""
    with tempfile.TemporaryDirectory() as out:
        options = ["--backbone.weights", "None", "--runner.log_every", "1", "--out", f"{out}/run"]
        _await_first_step(["tools/train.py", CONFIG, *data, *options])


def _await_first_step(words: list[str]) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        done = any("step 1/" in line for line in process.stdout)
        process.kill()
        if not done:
            raise UserError(f"{CONFIG} did not come to its first step: {process.stderr.read().strip()}")
