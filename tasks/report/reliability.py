"""Reliability diagrams: how often predictions of a probability came true (Guo et al., arXiv:1706.04599)."""

import numpy as np
from matplotlib.axes import Axes

from tasks.classification.metrics import BINS, Calibration
from tasks.report.blocks import Figure
from tasks.report.chart import GRID, INK, chart, colour


def reliability_figure(calibration: Calibration, what: str, caption: str) -> Figure:
    """Bars of how often predictions came true, by their probability, beside the diagonal of perfect ones."""

    def draw(axes: Axes) -> None:
        middle = (np.arange(BINS) + 0.5) / BINS
        known = calibration.counts > 0
        # As opaque as the bin is full, so that a bin of two predictions does not look like one of a thousand.
        full = calibration.counts / max(int(calibration.counts.max(initial=1)), 1)
        for place, height, part in zip(middle[known], calibration.frequency[known], full[known], strict=True):
            axes.bar(place, height, 0.86 / BINS, color=colour(0), alpha=0.3 + 0.7 * float(part) ** 0.5)
        axes.plot([0, 1], [0, 1], "--", color=INK, linewidth=1)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=what, ylabel="came true")
        axes.grid(axis="x", color=GRID)

    known = np.flatnonzero(calibration.counts)
    told = [
        f"{calibration.frequency[place]:.0%} of {calibration.counts[place]} at {calibration.confidence[place]:.2f}"
        for place in known.tolist()
    ]
    return Figure("Reliability", chart(draw), f"How often predictions came true: {'; '.join(told)}.", caption)
