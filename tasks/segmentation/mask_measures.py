"""The numbers that masks are scored by, from what is kept of each image; `SegmentationScorer` says what they mean."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.segmentation.overlap import Counts, dice, iou

Floats = npt.NDArray[np.float64]


def measure_masks(counts: Counts, hd95: Floats, surface_dice: Floats, names: Sequence[str]) -> dict[str, float]:
    """Metric by name, -1 where nothing could be measured.

    Args:
        counts: (I, K + 1, 3) of each image, as from `count_pixels`.
        hd95: (I, K), NaN where a class is not in an image.
        surface_dice: (I, K), likewise.
        names: K names of classes.
    """
    pooled = counts.sum(axis=0)
    by_class = {"Dice": dice(pooled)[1:], "IoU": iou(pooled)[1:]}
    by_image = {"Dice_per_image": dice(counts)[:, 1:], "HD95": hd95, "surface_Dice": surface_dice}
    by_class |= {kind: _means(values) for kind, values in by_image.items()}
    named: dict[str, float] = {kind: float(_means(values)) for kind, values in by_class.items()}
    named["mIoU"], named["mIoU_with_background"] = named["IoU"], float(_means(iou(pooled)))
    pixels = pooled[:, 2].sum()
    named["pixel_accuracy"] = float(pooled[:, 0].sum() / pixels) if pixels else float("nan")
    for kind, values in by_class.items():
        named |= {f"{kind}/{name}": value for name, value in zip(names, values.tolist(), strict=True)}
    return {name: -1.0 if np.isnan(value) else value for name, value in named.items()}


def _means(values: Floats) -> Floats:
    """Mean over the first axis of what is not NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    means: Floats = np.where(count > 0, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return means
