"""What a report says of masks."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from tasks.image_results import ImageResults
from tasks.report.blocks import Block, Figure, Figures, Text
from tasks.report.chart import chart, colour
from tasks.report.matrix import confusion_table
from tasks.report.numbers import metric
from tasks.report.ranking import Ranked
from tasks.segmentation.overlap import dice

Floats = npt.NDArray[np.float64]
MOST_CLASSES = 8


def mask_blocks(results: ImageResults) -> list[Block]:
    """How the images differ, what size does, and the pixels that are confused."""
    each = dice(results.arrays["counts"])[:, 1:]
    figures = [_distribution(results, each), _by_size(results, each)]
    blocks: list[Block] = [Text(told, quiet=True)] if (told := _unit(results)) else []
    blocks.append(Figures([figure for figure in figures if figure is not None]))
    if not results.options["overlapping"]:
        matrix, names = results.arrays["confusion"], ["background", *results.labels.names]
        if not results.options["background"]:
            matrix, names = matrix[1:, 1:], names[1:]
        blocks.append(confusion_table(matrix, names, "pixels", "Pixels of all images; ignored ones are left out."))
    return blocks


def worst_masks(results: ImageResults) -> list[Ranked]:
    """Images by the mean Dice of the classes in them, the lowest first."""
    each = dice(results.arrays["counts"])[:, 1:]
    known = np.asarray((~np.isnan(each)).any(axis=1), np.bool_)
    means = np.full(len(each), np.inf)
    means[known] = np.nanmean(each[known], axis=1)
    ranked = []
    for place in np.argsort(means, kind="stable").tolist():
        if known[place] and means[place] < 1:
            note = "Dice: " + ", ".join(
                f"{name} {value:.3f}"
                for name, value in zip(results.labels.names, each[place].tolist(), strict=True)
                if not np.isnan(value)
            )
            ranked.append(Ranked(results.images[int(results.arrays["index"][place])], note))
    return ranked


def units(results: ImageResults) -> dict[str, str]:
    """Of metrics that are lengths, where all images have the same; none of results of an older version."""
    known = results.arrays.get("millimetres")
    if known is None or not len(known) or known.any() != known.all():
        return {}
    return {"HD95": "mm" if known.all() else "px"}


def _unit(results: ImageResults) -> str:
    """What lengths are in; nothing of results of an older version, which do not tell."""
    known = results.arrays.get("millimetres")
    if known is None or not len(known):
        return ""
    if known.all():
        return "HD95 is in mm."
    if not known.any():
        return "HD95 is in pixels: no spacing is known."
    return f"HD95 mixes mm ({known.sum():,} images) and pixels (the others, whose spacing is not known)."


def _shown(results: ImageResults, each: Floats) -> list[int]:
    return [label for label in range(len(results.labels)) if not np.isnan(each[:, label]).all()][:MOST_CLASSES]


def _distribution(results: ImageResults, each: Floats) -> Figure | None:
    shown = _shown(results, each)
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        for row, label in enumerate(shown):
            own = each[~np.isnan(each[:, label]), label]
            # Spread over the height of the row in a fixed pattern, so that equal values stay apart.
            height = row + 0.5 * (np.arange(len(own)) * 0.618034 % 1 - 0.5)
            axes.plot(own, height, ".", color=colour(row), alpha=0.55, markersize=5)
            low, middle, high = np.quantile(own, [0.25, 0.5, 0.75])
            axes.plot([low, high], [row, row], color=colour(7), linewidth=2.5)
            axes.plot([middle], [row], "|", color=colour(7), markersize=16, markeredgewidth=2.5)
        axes.set_yticks(range(len(shown)), [results.labels.names[label] for label in shown])
        axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.4, -0.6), xlabel="Dice of an image")
        axes.grid(axis="y", visible=False)

    told = [f"{results.labels.names[label]}: median {metric(float(np.nanmedian(each[:, label])))}" for label in shown]
    caption = "a dot for each image; the line goes from quartile to quartile, the tick is the median"
    height = max(2.0, 1.0 + 0.6 * len(shown))
    return Figure("Dice of each image", chart(draw, height), f"Dice of single images. {'; '.join(told)}.", caption)


def _by_size(results: ImageResults, each: Floats) -> Figure | None:
    """Dice against the area that a class covers, in the images that have it."""
    shown = _shown(results, each)
    truth = results.arrays["counts"][:, 1:, 2].astype(np.float64)
    if not shown or not truth[:, shown].any():
        return None

    def draw(axes: Axes) -> None:
        for number, label in enumerate(shown):
            has = truth[:, label] > 0
            axes.plot(truth[has, label], each[has, label], ".", color=colour(number), alpha=0.6, markersize=6)
        axes.set_xscale("log")
        axes.set(ylim=(-0.02, 1.02), xlabel="annotated pixels in the image", ylabel="Dice")

    areas = truth[:, shown][truth[:, shown] > 0]
    told = f"Dice of images whose classes cover {areas.min():,.0f} to {areas.max():,.0f} pixels."
    caption = "each dot is a class in an image" if len(shown) > 1 else "each dot is an image"
    return Figure("By size of the area", chart(draw), told, caption, [results.labels.names[label] for label in shown])
