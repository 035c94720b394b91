"""What is kept of one scored image: counts of pixels, and distances between contours."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heads.contract import IGNORED
from tasks.segmentation.overlap import Counts, confusion, count_pixels_of_planes, margins

Mask = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """Scores of an image, K classes.

    Attributes:
        index: of the image in its split.
        counts: (K + 1, 3), as from `count_pixels`.
        hd95: (K,); NaN where a class is neither annotated nor predicted.
        surface_dice: (K,), likewise.
        millimetres: its spacing is known, so `hd95` and the tolerance are not in pixels.
        pairs: (P, 3), which value is taken for which in how many pixels, where each pixel has one class; else (0, 3).
    """

    index: int
    counts: Counts
    hd95: Floats
    surface_dice: Floats
    millimetres: bool
    pairs: Counts


def score_image(
    index: int,
    truth: Mask,
    predicted: Mask,
    classes: int,
    overlapping: bool,
    spacing: tuple[float, float] | None,
    tolerance: float,
) -> ImageScores:
    """Compare two masks of an image.

    A class that is only annotated or only predicted has a surface Dice of 0, and the diagonal of the image, the worst
    that is possible, as its distance.

    Args:
        index: of the image.
        truth: (P, H, W) as in `MaskTargets`.
        predicted: (P, H, W) as in `SemanticMasks`.
        classes: K.
        overlapping: there is a plane for each class, P = K.
        spacing: millimetres from row to row and column to column; None counts in pixels.
        tolerance: of the surface Dice, in millimetres or pixels.
    """
    from tasks.segmentation.surface_distance import hausdorff_95, surface_dice, surface_distances

    pairs = np.zeros((0, 3), np.int64)
    if overlapping:
        counts = count_pixels_of_planes(truth, predicted)
    else:
        matrix = confusion(truth[0], predicted[0], classes)
        counts, places = margins(matrix), np.nonzero(matrix)
        pairs = np.column_stack([*places, matrix[places]]).astype(np.int64)
    rows, columns = spacing or (1.0, 1.0)
    hd95, close = np.full((2, classes), np.nan)
    for label in np.flatnonzero(counts[1:, 1:].any(axis=1)).tolist():
        if not counts[label + 1, 1:].all():
            hd95[label] = np.hypot(truth.shape[1] * rows, truth.shape[2] * columns)
            close[label] = 0
            continue
        plane, value = (label, 1) if overlapping else (0, label + 1)
        inside = [(masks[plane] == value) & (truth[plane] != IGNORED) for masks in (truth, predicted)]
        distances = surface_distances(inside[0].view(np.uint8), inside[1].view(np.uint8), (rows, columns))
        hd95[label], close[label] = hausdorff_95(distances), surface_dice(distances, tolerance)
    return ImageScores(index, counts, hd95, close, spacing is not None, pairs)
