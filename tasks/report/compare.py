"""Several runs on one page: a verdict with its uncertainty, curves, and how their configs differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from accelerate.state import AcceleratorState

from backbones.errors import UserError
from tasks.image_results import ImageResults
from tasks.output import write_whole
from tasks.predicting import accelerator_for
from tasks.progress import Reporter
from tasks.report.arguments import CompareArguments
from tasks.report.blocks import Block, Cell, Figures, Page, Section, Table, Text
from tasks.report.comparison import Difference, differences_of, require_same_images, verdict
from tasks.report.curves import metric_figures, training_figures
from tasks.report.evaluate_again import evaluate_again, kept
from tasks.report.measures import affordable, scored_images
from tasks.report.metric_names import spelled
from tasks.report.numbers import DASH, metric
from tasks.report.provenance import cost_tiles
from tasks.report.render import render
from tasks.report.resampling import CONFIDENCE, SEED
from tasks.report.run_reading import Run, data_at, read_run
from tasks.report.settings import differences, shown

MOST_RUNS = 8  # colours there are
CAUTION = (
    "The uncertainty is that of the images: what other images of this kind would say of these very weights. Runs of "
    "another seed differ too; to tell recipes apart, train each more than once."
)

SHADED = (
    f"Below each difference its {CONFIDENCE:.0%} interval. P(better) is the share of draws in which the second "
    "run is better; it is shaded above 0.90, blue, and below 0.10, red."
)


def compare(arguments: CompareArguments) -> None:
    """What `tools/compare.py` does.

    Raises:
        UserError: fewer than two runs, runs that cannot be compared, or a page that cannot be written.
    """
    if not 2 <= len(arguments.runs) <= MOST_RUNS:
        raise UserError(f"{len(arguments.runs)} runs given; expected 2 to {MOST_RUNS} run folders")
    if arguments.draws < 100:
        raise UserError(f"draws is {arguments.draws}; expected 100 or more for an interval of {CONFIDENCE:.0%}")
    reporter = Reporter()
    names = _names(arguments.runs)
    runs = {name: _complete(path, arguments, reporter) for name, path in zip(names, arguments.runs, strict=True)}
    sections = [_head_section(head, results, arguments.draws, reporter) for head, results in _heads(runs).items()]
    sections += [_curves(runs), _settings(runs)]
    title = " and ".join(names) if len(names) == 2 else f"{len(names)} runs"
    others = names[1] if len(names) == 2 else f"{len(names) - 1} runs"
    lead = f"{others} against {names[0]}, scored on the same images."
    page = Page(f"{title} compared", lead, {}, sections, {name: number for number, name in enumerate(names, 1)})
    html = render(page)
    write_whole(arguments.out, lambda file: file.write_text(html, encoding="utf-8"))
    reporter.say(f"{CAUTION}\nwritten to {arguments.out}")


def _names(paths: Sequence[Path]) -> list[str]:
    """What tells the runs apart: the names of their folders, or where these are not enough, their paths."""
    short = [path.resolve().name for path in paths]
    if len(set(short)) == len(short):
        return short
    whole = [str(path.resolve()) for path in paths]
    if len(set(whole)) < len(whole):
        raise UserError(
            f"{next(path for path in whole if whole.count(path) > 1)}: given twice; expected different runs"
        )
    return whole


def _complete(path: Path, arguments: CompareArguments, reporter: Reporter) -> Run:
    """A run with its results."""
    run = read_run(path)
    if kept(run):
        return run
    config = data_at(run.config, arguments.data)
    AcceleratorState._reset_state()  # the run before may have had another precision
    return evaluate_again(run, config, accelerator_for(config, arguments.device), reporter)


def _heads(runs: Mapping[str, Run]) -> dict[str, dict[str, ImageResults]]:
    """Results by head and run: of the heads of one name, or where each run has but one, of those."""
    each = list(runs.values())
    if all(len(run.results) == 1 for run in each):
        (head,) = each[0].results
        found = {head: {name: next(iter(run.results.values())) for name, run in runs.items()}}
    else:
        shared = [head for head in each[0].results if all(head in run.results for run in each)]
        if not shared:
            told = "; ".join(f"{name}: {', '.join(run.results)}" for name, run in runs.items())
            raise UserError(f"no head is in all runs ({told}); expected one of the same name")
        found = {head: {name: run.results[head] for name, run in runs.items()} for head in shared}
    for results in found.values():
        first, *others = results
        for other in others:
            require_same_images(results[first], results[other], (first, other))
    return found


def _head_section(head: str, results: Mapping[str, ImageResults], asked: int, reporter: Reporter) -> Section:
    first, *others = results
    count = min(affordable(own, asked) for own in results.values())
    found = differences_of(results[first], [results[other] for other in others], count)
    images = len(scored_images(results[first]))
    blocks: list[Block] = []
    for other, rows in zip(others, found, strict=True):
        said = verdict(rows[0], (first, other))
        reporter.say(f"{head}: {said}")
        blocks.append(Text(f"{said}.", strong=True))
    split = results[first].split
    how = f"A paired bootstrap of {count:,} draws of the {images:,} images of the split {split!r}, seed {SEED}."
    blocks.append(Text(f"{how} {CAUTION}", quiet=True))
    for other, rows in zip(others, found, strict=True):
        overall = [row for row in rows if "/" not in row.metric]
        by_class = [row for row in rows if "/" in row.metric]
        columns = ["metric", first, other, "difference", f"{CONFIDENCE:.0%} interval", f"P({other} better)"]
        name = f"{other} against {first}" if len(others) > 1 else "Metrics"
        narrow = ["metric", "difference", "P(better)", first, other]  # on a phone, what came out before what went in
        blocks.append(Table(name, narrow, [_cells(row) for row in overall], SHADED))
        if by_class:
            blocks.append(Table(f"{name}, by class", narrow, [_cells(row) for row in by_class], folded=True))
        reporter.table(f"{head}: {other} against {first}", tuple(columns), [_row(row) for row in overall])
    return Section(f"head-{head}", head.capitalize(), blocks)


def _row(row: Difference) -> tuple[str, ...]:
    known = row.better == row.better
    return (
        row.metric,
        metric(row.before),
        metric(row.after),
        f"{row.value:+.3f}" if -1 not in (row.before, row.after) else DASH,
        f"{row.low:+.3f} … {row.high:+.3f}" if known else "",
        f"{row.better:.2f}" if known else "",
    )


def _cells(row: Difference) -> list[str | Cell]:
    """The same for the page: the interval below the difference, and what is nearly sure shaded."""
    name, before, after, difference, between, better = _row(row)
    sure = 2 * abs(row.better - 0.5) if better else 0.0
    return [
        Cell(spelled(name), note="lower is better" if row.lower else ""),
        Cell(difference, note=between),
        Cell(better, max(0.0, sure - 0.8) * 4, "good" if row.better >= 0.5 else "bad"),
        before,
        after,
    ]


def _curves(runs: Mapping[str, Run]) -> Section:
    metrics = list(dict.fromkeys(f"{head}/{own.main}" for run in runs.values() for head, own in run.results.items()))
    evaluations = {name: run.evaluations for name, run in runs.items()}
    best = {name: run.best_step for name, run in runs.items()}
    figures = metric_figures(evaluations, metrics, best)
    figures += training_figures({name: run.lines for name, run in runs.items()})
    return Section("curves", "Training", [Figures(figures)] if figures else [Text("No run has logged a line.")])


def _settings(runs: Mapping[str, Run]) -> Section:
    configs = [run.config for run in runs.values()]
    rows = [
        [name, *(DASH if value is None else shown(value) for value in values)] for name, values in differences(configs)
    ]
    blocks: list[Block] = [Table("Settings that differ", ["setting", *runs], rows, prose=True)]
    if not rows:
        blocks = [Text("The configs are the same.")]
    costs = {
        name: {tile.name: tile.value for tile in cost_tiles(sorted((*run.lines, *run.evaluations), key=_step))}
        for name, run in runs.items()
    }
    kinds = list(dict.fromkeys(kind for own in costs.values() for kind in own))
    if kinds:
        table = [[kind, *(own.get(kind, DASH) for own in costs.values())] for kind in kinds]
        blocks.append(Table("Cost", ["", *runs], table))
    return Section("settings", "Settings and cost", blocks)


def _step(record: Mapping[str, int]) -> int:
    return int(record["step"])
