"""Images read and prepared for training: our loader beside what people would write otherwise."""

import tempfile
from pathlib import Path

from backbones.errors import UserError
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.benchmark.choice import choose
from tasks.benchmark.data import SIDE, loading_contestants
from tasks.benchmark.photographs import HEIGHT, WIDTH, write_photographs
from tasks.benchmark.table import Table
from tasks.benchmark.timing import disturbed, interleave
from tasks.progress import Reporter

RUNS = 7
IMAGES = 256


def compare_loading(arguments: BenchmarkArguments, reporter: Reporter) -> list[Table]:
    """One table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.root or write_photographs(Path(temporary), IMAGES)
        if not folder.is_dir():
            raise UserError(f"--root is {folder}, which is no folder; expected one of images")
        found = loading_contestants(folder, arguments.workers)
        names = choose({name: name.split()[0] for name in found}, arguments.peer, arguments.only)
        runs, counts = arguments.runs or RUNS, {name: found[name]() for name in names}
        timings = interleave({name: found[name] for name in names}, runs, arguments.warmup, reporter)
    rows, figures = [], []
    for name in names:
        timing, images = timings[name], counts[name]
        rows.append(
            (
                name,
                str(images),
                f"{images / timing.median:,.0f}",
                f"{images / timing.least:,.0f}",
                f"{1000 * timing.median / images:.2f}",
                f"{timing.spread:.0%}",
                f"{(timing.median / images) / (timings[names[0]].median / counts[names[0]]):.2f}",
            )
        )
        figures.append(
            {
                "name": name,
                "images": images,
                "images_per_second": images / timing.median,
                "milliseconds_an_image": 1000 * timing.median / images,
                "seconds": timing.median,
                "spread": timing.spread,
                "runs": timing.seconds,
            }
        )
    given = str(arguments.root) if arguments.root else f"{IMAGES} generated JPEG files of {WIDTH} x {HEIGHT}"
    notes = [f"{given}, to {SIDE} x {SIDE}; ratio: of the time an image takes, to {names[0]}", *disturbed(timings)]
    title = f"data, {arguments.workers} workers: all images once, medians of {runs} runs, in turn"
    columns = ("", "images", "images/s", "most images/s", "ms an image", "spread", "ratio")
    return [Table(title, columns, rows, figures, notes)]
