"""Metrics of one head with how sure they are: as tiles, as a table, and by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.image_results import ImageResults
from tasks.report.blocks import Block, Cell, Table, Text, Tile, Tiles
from tasks.report.measures import affordable, measure_of, scored_images
from tasks.report.numbers import metric, span
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


def metric_blocks(measured: Measured, headline: Sequence[str], classes: Sequence[str]) -> list[Block]:
    """Tiles of the headline, then tables of all metrics and of those by class."""
    values, intervals = measured.values, measured.intervals
    overall = {name: value for name, value in values.items() if "/" not in name}
    blocks: list[Block] = [
        Tiles([Tile(name, metric(values[name]), _between(intervals.get(name))) for name in headline if name in values])
    ]
    if measured.draws:
        blocks.append(
            Text(
                f"The second line is the {CONFIDENCE:.0%} interval of {measured.draws:,} draws of {measured.images:,} "
                f"images with repetition (seed {SEED}): what other images of this kind would give, not another seed.",
                quiet=True,
            )
        )
    kinds = list(dict.fromkeys(name.rsplit("/", 1)[0] for name in values if "/" in name))
    rows: list[list[str | Cell]] = []
    for label in classes:
        names = [f"{kind}/{label}" for kind in kinds]
        if any(name in values for name in names):
            cells = [Cell(metric(values.get(name, -1)), note=_between(intervals.get(name))) for name in names]
            rows.append([label, *cells])
    if len(rows) > 1:  # of a single class these are the numbers above
        blocks.append(Table("By class", ["class", *kinds], rows, folded=len(rows) > MOST_CLASSES))
    table = [[name, metric(value), _between(intervals.get(name))] for name, value in overall.items()]
    blocks.append(Table("All metrics", ["metric", "value", f"{CONFIDENCE:.0%} interval"], table, folded=True))
    return blocks


def _between(found: Interval | None) -> str:
    return "" if found is None else span(found.low, found.high)
