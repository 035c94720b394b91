"""Metrics of one head with how sure they are: as tiles, as a table, and by class."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tasks.image_results import ImageResults
from tasks.report.blocks import Bar, Block, Cell, Table, Text, Tile, Tiles
from tasks.report.measures import affordable, measure_of, scored_images
from tasks.report.metric_names import meaning, spelled
from tasks.report.numbers import DASH, metric, span
from tasks.report.resampling import CONFIDENCE, SEED, Interval, distribution, interval

MOST_CLASSES = 40  # shown at once; more are folded


@dataclass(frozen=True, slots=True)
class Measured:
    """The metrics of a head.

    Attributes:
        values: as logged.
        intervals: of those that a bootstrap measured.
        draws: of it.
        images: that were drawn from.
    """

    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    draws: int
    images: int


def measure(results: ImageResults, asked: int) -> Measured:
    """The logged metrics with their intervals, by at most `asked` draws of images; 0 asks for none."""
    images = len(scored_images(results))
    count = affordable(results, asked) if images > 1 and asked else 0
    values = distribution(measure_of(results), images, count) if count else {}
    intervals = {name: own for name in values if (own := interval(values[name])) is not None}
    return Measured(results.metrics, intervals, count, images)


def metric_tiles(measured: Measured, headline: Sequence[str], units: Mapping[str, str]) -> list[Block]:
    """Tiles of the headline, of which the first is the main metric, and a line on what the intervals mean.

    Args:
        measured: all metrics.
        headline: names of those to be shown.
        units: of metrics that are no shares.
    """
    values = measured.values
    tiles = []
    for place, name in enumerate(name for name in headline if name in values):
        between, unit = measured.intervals.get(name), f" {units[name]}" if name in units else ""
        number = metric(values[name])
        bar = _bar(values[name], between) if not unit and between is not None else None
        text = number + unit if number != DASH else number
        tiles.append(Tile(spelled(name), text, _between(between), bar, main=place == 0))
    blocks: list[Block] = [Tiles(tiles)]
    if measured.draws:
        blocks.append(
            Text(
                f"Below each number its {CONFIDENCE:.0%} interval, on a line from 0 to 1 where it is a share: from "
                f"{measured.draws:,} draws of {measured.images:,} images with repetition (seed {SEED}). It says what "
                "other images of this kind would give, not what another seed would.",
                quiet=True,
            )
        )
    return blocks


def class_table(measured: Measured, classes: Sequence[str], units: Mapping[str, str]) -> list[Block]:
    """Metrics by class, with their intervals; nothing of a single class, whose numbers are the overall ones.

    Args:
        measured: all metrics.
        classes: names.
        units: of metrics that are no shares.
    """
    values, intervals = measured.values, measured.intervals
    kinds = list(dict.fromkeys(name.rsplit("/", 1)[0] for name in values if "/" in name))
    rows: list[list[str | Cell]] = []
    for label in classes:
        names = [f"{kind}/{label}" for kind in kinds]
        if any(name in values for name in names):
            cells = [Cell(metric(values.get(name, -1)), note=_between(intervals.get(name))) for name in names]
            rows.append([label, *cells])
    columns = ["class", *(spelled(kind) + (f", {units[kind]}" if kind in units else "") for kind in kinds)]
    return [Table("By class", columns, rows, folded=len(rows) > MOST_CLASSES)] if len(rows) > 1 else []


def metric_table(measured: Measured, kind: str, lower: Collection[str]) -> Table:
    """All overall metrics with their intervals and what they mean.

    Args:
        measured: all metrics.
        kind: of the results.
        lower: metrics that are better when lower.
    """
    rows = [
        [name, metric(value), _between(measured.intervals.get(name)), meaning(name, kind, lower)]
        for name, value in measured.values.items()
        if "/" not in name
    ]
    columns = ["metric", "value", f"{CONFIDENCE:.0%} interval", "what it tells"]
    return Table("All metrics, and what they tell", columns, rows, folded=True, words=True, stacked=True)


def _bar(value: float, between: Interval) -> Bar | None:
    """Of what lies between 0 and 1."""
    return Bar(value, between.low, between.high) if 0 <= between.low <= between.high <= 1 and 0 <= value <= 1 else None


def _between(found: Interval | None) -> str:
    return "" if found is None else span(found.low, found.high)
