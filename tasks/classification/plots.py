"""Pictures of how labels were predicted: confusion matrix, calibration, scatter of numbers.

Drawn without pyplot, which keeps global state and looks for a screen.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.classification.metrics import BINS, Calibration, Floats, Ints

MOST_COUNTS = 30  # classes; with more, the cells are too small to write into
MOST_PANELS = 9
LONGEST_NAME = 24  # letters


def draw_confusion(file: Path, confusion: Ints, names: Sequence[str]) -> None:
    """Counts (K, K) of annotated (rows) and predicted (columns) classes; the colour is the share of the row."""
    classes = len(names)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.full(confusion.shape, np.nan), where=totals > 0)
    side = min(max(4.0, 0.5 * classes), 20.0)
    figure = Figure(figsize=(side, side), dpi=100)
    # The matrix fills the figure; names of any length lie outside, and saving it "tight" takes them in.
    axes, bar = figure.add_axes((0, 0, 1, 1)), figure.add_axes((1 + 0.2 / side, 0, 0.25 / side, 1))
    # The root makes a few confusions among many images visible.
    image = axes.imshow(
        shares, cmap=colormaps["Blues"].with_extremes(bad="0.85"), norm=PowerNorm(0.5, 0, 1), aspect="auto"
    )
    size = min(10.0, 0.7 * 72 * side / classes)
    shown = [_short(name) for name in names]
    turned = max(map(len, shown)) * size * 0.7 > 72 * side / classes
    axes.set_xticks(range(classes), shown, fontsize=size, rotation=90 if turned else 0, parse_math=False)
    axes.set_yticks(range(classes), shown, fontsize=size, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("annotated")
    if classes <= MOST_COUNTS:
        for (row, column), count in np.ndenumerate(confusion):
            if count or row == column:
                ink = "white" if shares[row, column] > 0.35 else "black"
                axes.text(column, row, f"{count}", ha="center", va="center", color=ink, fontsize=size)
    figure.colorbar(image, cax=bar, label="share of the annotated class")
    figure.savefig(file, bbox_inches="tight")


def draw_calibration(file: Path, calibration: Calibration) -> None:
    """Reliability diagram: how often predictions came true by their probability, and how many there are of each."""
    figure = Figure(figsize=(5, 6), dpi=100, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    left = np.arange(BINS) / BINS
    upper.bar(left, np.nan_to_num(calibration.frequency), 1 / BINS, align="edge", color="C0", edgecolor="white")
    upper.plot(calibration.confidence, calibration.frequency, "o", color="C1", label="mean probability of the bin")
    upper.plot([0, 1], [0, 1], "--", color="0.4", label="perfectly calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that came true")
    if calibration.counts.any():
        upper.set_title(f"expected calibration error {calibration.error:.3f}")
    upper.legend(loc="upper left")
    lower.bar(left, calibration.counts, 1 / BINS, align="edge", color="0.6", edgecolor="white")
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    lower.set(xlabel="predicted probability", ylabel="predictions")
    figure.savefig(file)


def draw_numbers(file: Path, truth: Floats, predicted: Floats, names: Sequence[str]) -> None:
    """Predicted against annotated numbers (N, K), a panel for each of the first few of the K."""
    count = min(len(names), MOST_PANELS)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(4.5 * columns, 4.5 * rows), dpi=100, layout="constrained")
    for k in range(count):
        _scatter(figure.add_subplot(rows, columns, k + 1), truth[:, k], predicted[:, k], names[k])
    figure.savefig(file)


def _scatter(axes: Axes, truth: Floats, predicted: Floats, name: str) -> None:
    axes.plot(truth, predicted, "o", markersize=4, alpha=0.5, markeredgewidth=0)
    if len(truth):
        ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
        axes.plot(ends, ends, "--", color="0.4")
    axes.set_title(_short(name), parse_math=False)
    axes.set(xlabel="annotated", ylabel="predicted")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
