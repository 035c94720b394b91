"""What a report says of labels of whole images."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from tasks.classification.label_measures import LabelMeasures
from tasks.classification.metrics import decided
from tasks.image_results import ImageResults
from tasks.report.blocks import Block, Figure, Figures
from tasks.report.chart import INK, chart, colour
from tasks.report.matrix import confusion_table
from tasks.report.numbers import metric
from tasks.report.ranking import Ranked
from tasks.report.reliability import reliability_figure

MOST_CURVES = 8
Floats = npt.NDArray[np.float64]


def label_blocks(results: ImageResults) -> list[Block]:
    """Curves, reliability, and what is confused; of numbers, predicted against annotated ones."""
    target, truth, scores = results.options["target"], results.arrays["truth"], results.arrays["scores"]
    measures = LabelMeasures(results.labels, target)
    measures(truth, scores)
    figures: list[Figure] = []
    if target in ("single", "multi") and len(truth):
        present = truth if truth.ndim == 2 else truth[:, None] == np.arange(len(results.labels))
        figures += _curves(present, scores, results.labels.names)
    if measures.calibration is not None and len(truth):
        caption = f"expected calibration error {measures.calibration.error:.3f}; faint bars hold few predictions"
        figures.append(reliability_figure(measures.calibration, "predicted probability", caption))
    if measures.numbers is not None and len(truth):
        figures += [
            _scatter(truth[:, k], scores[:, k], name) for k, name in enumerate(results.labels.names[:MOST_CURVES])
        ]
    blocks: list[Block] = [Figures(figures)] if figures else []
    if measures.confusion is not None:
        blocks.append(confusion_table(measures.confusion, results.labels.names, "images", ""))
    return blocks


def worst_labels(results: ImageResults) -> list[Ranked]:
    """Images by how far the prediction is from the label, the farthest first; those predicted rightly are left out."""
    target, truth, scores = results.options["target"], results.arrays["truth"], results.arrays["scores"]
    names, index = results.labels.names, results.arrays["index"]
    if not len(truth):
        return []
    notes: list[str]
    if target == "regression":
        spread = np.maximum(truth.std(axis=0), 1e-12)
        distance = np.abs(scores - truth) / spread
        badness, wrong = distance.max(axis=1), distance.max(axis=1) > 0
        notes = [
            ", ".join(
                f"{name} {own:.4g} instead of {right:.4g}" for name, own, right in zip(names, found, true, strict=True)
            )
            for found, true in zip(scores.tolist(), truth.tolist(), strict=True)
        ]
    elif target == "multi":
        error = np.where(truth, 1 - scores, scores)
        badness, wrong = error.max(axis=1), (error > 0.5).any(axis=1)
        places = error.argmax(axis=1).tolist()
        notes = [
            f"{names[place]} {'missed' if truth[row, place] else 'is not there'}, probability {scores[row, place]:.2f}"
            for row, place in enumerate(places)
        ]
    else:
        found = decided(scores, target)
        given = np.take_along_axis(scores, truth[:, None], axis=1)[:, 0]
        badness, wrong = 1 - given, found != truth
        notes = [
            f"{names[true]} taken for {names[own]}; probability of the right one {chance:.2f}"
            for true, own, chance in zip(truth.tolist(), found.tolist(), given.tolist(), strict=True)
        ]
    order = np.argsort(-badness, kind="stable").tolist()
    return [Ranked(results.images[int(index[place])], notes[place]) for place in order if wrong[place]]


def precision_recall(present: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Precision and recall at each threshold, from the highest score on; equal scores are taken at once.

    Equal to scikit-learn's `precision_recall_curve`, in the other order and without its end at recall 0.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(present[order])[ends].astype(np.float64)
    return hits / (ends + 1), hits / hits[-1]


def roc(present: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Shares of false and of true positives at each threshold, from (0, 0) on; equal to scikit-learn's `roc_curve`
    with all its points.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(present[order])[ends].astype(np.float64)
    misses = ends + 1 - hits
    return np.append(0, misses / misses[-1]), np.append(0, hits / hits[-1])


def _curves(present: npt.NDArray[np.bool_], scores: Floats, names: tuple[str, ...]) -> list[Figure]:
    """Precision against recall, and ROC, of each class; of two classes those of the second one."""
    chosen = [1] if len(names) == 2 and (present.sum(axis=1) == 1).all() else list(range(len(names)))
    chosen = [label for label in chosen if 0 < present[:, label].sum() < len(present)][:MOST_CURVES]
    if not chosen:
        return []

    def draw_precision(axes: Axes) -> None:
        for number, label in enumerate(chosen):
            precision, recall = precision_recall(present[:, label], scores[:, label])
            axes.plot([0, *recall], [precision[0], *precision], color=colour(number))
        axes.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")

    def draw_roc(axes: Axes) -> None:
        for number, label in enumerate(chosen):
            axes.plot(*roc(present[:, label], scores[:, label]), color=colour(number))
        axes.plot([0, 1], [0, 1], "--", color=INK, linewidth=1)
        axes.set(xlim=(-0.01, 1), ylim=(0, 1.03), xlabel="false positive rate", ylabel="true positive rate")

    keys = [names[label] for label in chosen]
    shown = ", ".join(keys)
    caption = f"{len(chosen)} of {len(names)} classes" if len(chosen) < len(names) and len(names) > 2 else ""
    if len(chosen) == 1:
        caption = f"of {shown}"
    return [
        Figure("Precision and recall", chart(draw_precision), f"Precision against recall of {shown}.", caption, keys),
        Figure("ROC", chart(draw_roc), f"True against false positive rate of {shown}.", caption, keys),
    ]


def _scatter(truth: Floats, predicted: Floats, name: str) -> Figure:
    def draw(axes: Axes) -> None:
        ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
        axes.plot(ends, ends, "--", color=INK, linewidth=1)
        axes.plot(truth, predicted, "o", color=colour(0), markersize=4, alpha=0.5, markeredgewidth=0)
        axes.set(xlabel="annotated", ylabel="predicted")

    error = float(np.abs(truth - predicted).mean())
    return Figure(name, chart(draw, 3.2), f"Predicted against annotated {name}, on average {metric(error)} apart.")
