"""A picture of how a metric is distributed over the images, by class, that names the worst ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.drawing import class_colour
from tasks.label_map import LabelMap


def draw_distribution(
    path: Path, title: str, values: npt.NDArray[np.float64], labels: LabelMap, places: Sequence[str]
) -> None:
    """Write as PNG a row for each class: a dot for each image, a box from quartile to quartile, the worst by name.

    Args:
        path: of the picture.
        title: of the metric, 0 .. 1, higher is better.
        values: (I, K); NaN where a class is not in an image.
        labels: classes.
        places: I paths of images.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [label for label in range(len(labels)) if not np.isnan(values[:, label]).all()]
    figure = Figure(figsize=(8, 1.4 + 0.7 * max(1, len(rows))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, label in enumerate(rows):
        known = np.flatnonzero(~np.isnan(values[:, label]))
        own = values[known, label]
        colour = tuple(part / 255 for part in class_colour(label))
        # Spread over the height of the row in a fixed pattern, so that equal values stay apart.
        height = row + 0.25 * (np.arange(len(own)) * 0.618034 % 1 - 0.5)
        axes.boxplot(own, positions=[row], orientation="horizontal", widths=0.45, showfliers=False)
        axes.plot(own, height, ".", color=colour, alpha=0.6, markersize=5)
        worst = int(own.argmin())
        text = f"{own[worst]:.2f}  {Path(places[known[worst]]).name}"
        axes.text(own[worst], row - 0.28, text, fontsize=7, ha="left" if own[worst] < 0.5 else "right", va="bottom")
    axes.set_yticks(range(len(rows)), [f"{labels.names[label]}" for label in rows])
    axes.set(xlim=(-0.02, 1.02), ylim=(max(1, len(rows)) - 0.4, -0.7), xlabel=title)
    axes.set_title(f"{title}: {len(values)} images, the worst of each class by name", fontsize=10)
    axes.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=120)
