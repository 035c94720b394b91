"""What a report says of boxes, and of the masks in them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from tasks.classification.metrics import Calibration
from tasks.detection.error_kinds import (
    ErrorKind,
    PrecisionCurve,
    confusion_at,
    error_kinds,
    image_counts,
    precision_curves,
)
from tasks.detection.evaluation_of import evaluation_of
from tasks.image_results import ImageResults
from tasks.report.blocks import Block, Figure, Figures, Table
from tasks.report.chart import INK, chart, colour
from tasks.report.intervals import Measured
from tasks.report.matrix import confusion_table
from tasks.report.numbers import metric, span
from tasks.report.ranking import Ranked
from tasks.report.reliability import reliability_figure

SHOWN_FROM = 0.5  # score
MOST_CURVES = 8
COSTS = (
    "Bolya et al. 2020, of all detections whatever they score. AP50 lost is by how many points AP50 would rise if all "
    "errors of that kind alone were mended; these do not add up."
)
CONFUSIONS = (
    f"Of those that score at least {SHOWN_FROM}, at an IoU of 0.5 or more. The last column is what was missed, the "
    "last row what was found where nothing is annotated."
)
SIZES = (("s", "small", "below 32 x 32"), ("m", "medium", "to 96 x 96"), ("l", "large", "above"))


def box_blocks(results: ImageResults, measured: Measured) -> list[Block]:
    """Errors by kind, metric by size, confusions, and curves; of masks where objects have some."""
    masks = results.kind == "instances"
    evaluation = evaluation_of(results, "segm" if masks else "bbox")
    curves = precision_curves(evaluation.matches)
    kinds = error_kinds(evaluation.coco)
    figures = [_errors_figure(kinds), *_sizes_figure("segm " if masks else "", measured)]
    if curves:
        figures.append(_curves_figure(curves))
        figures.append(_reliability(list(curves.values())))
    rows = [[own.name, f"{own.count:,}", f"{100 * own.cost:.1f}", own.meaning] for own in kinds]
    classes = [*evaluation.matches.names, "background"]
    what = "masks" if masks else "boxes"
    return [
        Figures(figures),
        Table("Errors by kind", ["kind", "number", "AP50 lost", "what it is"], rows, COSTS, folded=True, words=True),
        confusion_table(confusion_at(evaluation.coco, SHOWN_FROM), classes, what, CONFUSIONS),
    ]


def worst_boxes(results: ImageResults) -> list[Ranked]:
    """Images by the share of objects that are missed or wrong among all of either, the largest first."""
    evaluation = evaluation_of(results, "segm" if results.kind == "instances" else "bbox")
    ranked = []
    for row, (right, missed, wrong) in enumerate(image_counts(evaluation.matches, SHOWN_FROM).tolist()):
        if not missed + wrong:
            continue
        note = f"{right} found, {missed} missed, {wrong} wrong at a score of {SHOWN_FROM} or more"
        share = (missed + wrong) / (missed + wrong + right)
        ranked.append((share, missed + wrong, Ranked(results.images[row], note)))
    ranked.sort(key=lambda own: own[:2], reverse=True)
    return [own for *_, own in ranked]


def _errors_figure(kinds: Sequence[ErrorKind]) -> Figure:
    def draw(axes: Axes) -> None:
        names, costs = [own.name for own in kinds], [100 * own.cost for own in kinds]
        bars = axes.barh(names, costs, color=colour(1), height=0.65)
        axes.bar_label(bars, [f"{own.count:,}" for own in kinds], padding=4, fontsize=9)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="AP50 lost, points", xlim=(0, max(1.0, 1.18 * max(costs))))

    told = [f"{own.name}: {own.count}, costing {100 * own.cost:.1f} points" for own in kinds]
    caption = "each bar with the number of errors; explained in the table below"
    return Figure("What costs AP", chart(draw), f"Errors by kind. {'; '.join(told)}.", caption)


def _sizes_figure(prefix: str, measured: Measured) -> list[Figure]:
    shown = [
        (name, measured.values[f"{prefix}AP{ending}"], measured.intervals.get(f"{prefix}AP{ending}"))
        for ending, name, _ in SIZES
        if measured.values.get(f"{prefix}AP{ending}", -1) != -1
    ]
    if not shown:
        return []

    def draw(axes: Axes) -> None:
        for place, (_, value, between) in enumerate(shown):
            axes.bar(place, value, 0.55, color=colour(0))
            if between is not None:
                axes.plot([place, place], [between.low, between.high], color=INK, linewidth=2)
            axes.text(place + 0.06, max(value, between.high if between else 0) + 0.02, metric(value), fontsize=9)
        axes.set_xticks(range(len(shown)), [name for name, *_ in shown])
        axes.set(ylim=(0, 1.05), xlim=(-0.6, len(shown) - 0.4), ylabel=f"{prefix}AP")
        axes.grid(axis="x", visible=False)

    told = [f"{name}: {metric(value)}" + (f", {span(b.low, b.high)}" if b else "") for name, value, b in shown]
    limits = ", ".join(f"{name} {limit}" for _, name, limit in SIZES)
    caption = f"in pixels of the image: {limits}; the line is the interval"
    return [Figure("By size of the object", chart(draw), f"AP by size. {'; '.join(told)}.", caption)]


def _curves_figure(curves: dict[str, PrecisionCurve]) -> Figure:
    shown = list(curves.items())[:MOST_CURVES]

    def draw(axes: Axes) -> None:
        for number, (_, curve) in enumerate(shown):
            # As AP sees it: the best precision at that recall or beyond.
            highest = np.maximum.accumulate(curve.precision[::-1])[::-1]
            if len(highest):
                axes.plot([0, *curve.recall], [*highest[:1], *highest], color=colour(number))
        axes.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")

    more = len(curves) - len(shown)
    caption = "at an IoU of 0.5" + (f"; the first {len(shown)} of {len(curves)} classes" if more > 0 else "")
    told = [f"{name} reaches a recall of {curve.recall[-1] if len(curve.recall) else 0:.2f}" for name, curve in shown]
    return Figure("Precision and recall", chart(draw), f"{'; '.join(told)}.", caption, [name for name, _ in shown])


def _reliability(curves: Sequence[PrecisionCurve]) -> Figure:
    scores = np.concatenate([curve.scores for curve in curves])
    hits = np.concatenate([curve.hits for curve in curves])
    calibration = Calibration.of(scores, hits)
    error = calibration.error
    told = "" if np.isnan(error) else f"expected calibration error {error:.3f}; "
    return reliability_figure(calibration, "score", f"{told}a box is right at an IoU of 0.5; faint bars hold few boxes")
