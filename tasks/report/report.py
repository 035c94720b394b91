"""The report of a run: puts its parts together and writes them as one page."""

from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate.accelerator import Accelerator

from backbones.errors import UserError
from tasks.checkpoint import load_checkpoint
from tasks.config import Experiment
from tasks.drawing import class_colour
from tasks.head_choice import heads_to_use, learning_heads
from tasks.image_results import ImageResults
from tasks.joint_evaluation import MEAN
from tasks.output import write_whole
from tasks.predicting import accelerator_for
from tasks.progress import Reporter
from tasks.report.arguments import ReportArguments
from tasks.report.blocks import Block, Examples, Figures, Page, Section, Table, Text
from tasks.report.boxes import box_blocks, worst_boxes
from tasks.report.curves import metric_figures, training_figures
from tasks.report.evaluate_again import evaluate_again, kept
from tasks.report.illustrate import Illustrator
from tasks.report.intervals import Measured, class_table, measure, metric_table, metric_tiles
from tasks.report.labels import label_blocks, worst_labels
from tasks.report.masks import mask_blocks, units, worst_masks
from tasks.report.numbers import moment
from tasks.report.provenance import cost_section, settings_section
from tasks.report.ranking import Ranked
from tasks.report.render import render
from tasks.report.run_reading import Run, data_at, read_run

MOST_KEYS = 12  # classes whose colours are told
WORST: dict[str, Callable[[ImageResults], Sequence[Ranked]]] = {
    "boxes": worst_boxes,
    "instances": worst_boxes,
    "masks": worst_masks,
    "labels": worst_labels,
}


def report(arguments: ReportArguments) -> Path:
    """What `tools/report.py` does; returns the page.

    Raises:
        UserError: the folder is no run, a file in it is damaged, or the page cannot be written.
    """
    reporter = Reporter()
    run = read_run(arguments.run)
    config = data_at(run.config, arguments.data)
    accelerator = accelerator_for(config, arguments.device)
    if run.best_step is not None and not kept(run):
        run = evaluate_again(run, config, accelerator, reporter)
    page = arguments.out or run.folder.report
    write_report(run, config, accelerator, page, images=arguments.images, draws=arguments.draws)
    reporter.say(f"written to {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return page


def write_report(
    run: Run, config: Experiment, accelerator: Accelerator, page: Path, *, images: int = 6, draws: int = 500
) -> None:
    """Write the page of a run, with the parts that it has come to.

    Args:
        run: as read.
        config: its experiment, with the data where they lie now.
        accelerator: device and precision of the model.
        page: file to write.
        images: worst ones to show of each head.
        draws: of images, for intervals.

    Raises:
        UserError: the page cannot be written.
    """
    sections = []
    illustrator: Illustrator | str = "no checkpoint was saved" if run.best_step is None else ""
    if run.results and images and not illustrator:
        try:
            only = learning_heads(config)
            checkpoint = load_checkpoint(run.folder.path, prefer_best=True).keep(only)
            illustrator = Illustrator(checkpoint, heads_to_use(config, only), accelerator)
        except UserError as error:
            illustrator = str(error)
    for head, results in run.results.items():
        measured = measure(results, draws)
        sections.append(_head_section(head, results, measured, illustrator if images else None, images))
    sections += [_curves_section(run), settings_section(run), cost_section(run)]
    html = render(Page(config.name, _lead(run), _facts(run), [own for own in sections if own.blocks]))
    write_whole(page, lambda file: file.write_text(html, encoding="utf-8"))


def _lead(run: Run) -> str:
    network = f"{run.config.backbone.name} with {', '.join(head.name for head in run.config.heads.values())}"
    if not run.lines and not run.evaluations:
        return f"{network}. The run has not logged anything yet."
    if not run.results:
        return f"{network}, {run.step:,} steps. Nothing has been evaluated yet."
    first = next(iter(run.results.values()))
    return f"{network}, {run.step:,} steps; scored on the {len(first.images):,} images of the split {first.split!r}."


def _facts(run: Run) -> dict[str, str]:
    config, schedule = run.config, run.config.schedule
    facts = {
        "length": f"{schedule.steps:,} steps" if schedule.steps else f"{schedule.epochs} epochs",
        "batch": str(config.data.batch_size),
        "optimizer": f"{config.optimizer.name}, rate {config.optimizer.lr:g}",
        "seed": str(config.runner.seed),
    }
    if run.starts:
        facts |= {"device": run.starts[-1]["device"], "started": moment(run.starts[0]["time"])}
    if run.best_step is not None:
        facts["best checkpoint"] = f"step {run.best_step:,}"
    return facts


def _curves_section(run: Run) -> Section:
    name = run.config.name
    headline = [f"{head}/{results.main}" for head, results in run.results.items()]
    if len(headline) > 1:
        headline.insert(0, MEAN)
    figures = [
        *metric_figures({name: run.evaluations}, headline, {name: run.best_step}),
        *training_figures({name: run.lines}),
    ]
    blocks: list[Block] = [Figures(figures)] if figures else [Text("The run has not logged a line of training yet.")]
    return Section("curves", "Training", blocks)


def _head_section(
    head: str, results: ImageResults, measured: Measured, illustrator: Illustrator | str | None, images: int
) -> Section:
    lengths = units(results) if results.kind == "masks" else {}
    blocks = metric_tiles(measured, _headline(results), lengths)
    match results.kind:
        case "boxes" | "instances":
            own = box_blocks(results, measured)
        case "masks":
            own = mask_blocks(results)
        case "labels":
            own = label_blocks(results)
    # Charts, then tables, then what is folded.
    blocks += sorted([*class_table(measured, results.labels.names, lengths), *own], key=_place)
    blocks.append(metric_table(measured, results.kind, results.lower))
    if illustrator is not None:
        blocks += _worst(head, results, illustrator, images)
    what = {"instances": "boxes and masks"}.get(results.kind, results.kind)
    if results.options.get("target") == "regression":
        what = "numbers"
    return Section(
        f"head-{head}",
        head.capitalize() if head.removesuffix("s") == what.removesuffix("s") else f"{head}: {what}",
        blocks,
    )


def _place(block: Block) -> int:
    return 0 if not isinstance(block, Table) else 2 if block.folded else 1


def _headline(results: ImageResults) -> list[str]:
    """The main metric first, then the overall ones that could be measured, at most six."""
    overall = [name for name, value in results.metrics.items() if "/" not in name and value != -1]
    return list(dict.fromkeys([results.main, *overall]))[:6]


def _worst(head: str, results: ImageResults, illustrator: Illustrator | str, images: int) -> list[Block]:
    ranked = WORST[results.kind](results)
    if not ranked:
        return [Text("No image was predicted wrongly.", quiet=True)] if results.images else []
    if isinstance(illustrator, str):
        return [Text(f"The worst images cannot be shown: {illustrator}", quiet=True)]
    examples = []
    for own in ranked[:images]:
        try:
            examples.append(illustrator.example(head, own.image, own.image, own.note))
        except UserError as error:
            return [Text(f"The worst images cannot be shown: {error}", quiet=True)]
    title = f"The worst {len(examples)} of {len(results.images):,} images" if len(examples) > 1 else "The worst image"
    colours = {name: class_colour(label) for label, name in enumerate(results.labels.names[:MOST_KEYS])}
    compact = results.kind == "labels"
    heat = any(picture.heat for example in examples for picture in example.pictures)
    return [Examples(title, examples, keys={} if compact else colours, compact=compact, heat=heat)]
