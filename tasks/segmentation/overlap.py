"""How many pixels of annotated and predicted masks agree, and the two common ratios of them."""

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def confusion(truth: Mask, predicted: Mask, classes: int) -> Counts:
    """Pixels of one plane in which every pixel has one class, by what they are and what they are taken for.

    Args:
        truth: (H, W), 0 is background, k + 1 is class k, what is `IGNORED` takes no part.
        predicted: (H, W), likewise, without `IGNORED`.
        classes: K.

    Returns:
        (K + 1, K + 1), a row for each value of `truth`.
    """
    # One number for each pair of values; a row for every value of a byte, so that ignored pixels need no selection.
    pairs = truth.astype(np.uint16) * (classes + 1) + predicted
    matrix = np.bincount(pairs.reshape(-1), minlength=256 * (classes + 1)).reshape(256, -1)[: classes + 1]
    return matrix.astype(np.int64)


def margins(matrix: Counts) -> Counts:
    """(K + 1, 3) of background and each class the pixels in both, in `predicted`, in `truth`, of a `confusion`."""
    return np.stack([matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)], axis=1)


def count_pixels(truth: Mask, predicted: Mask, classes: int) -> Counts:
    """The `margins` of the `confusion` of two planes; arguments as there."""
    return margins(confusion(truth, predicted, classes))


def count_pixels_of_planes(truth: Mask, predicted: Mask) -> Counts:
    """Counts of a plane for each class, where classes may overlap.

    Args:
        truth: (K, H, W), 1 inside, 0 outside, what is `IGNORED` takes no part in its plane.
        predicted: (K, H, W), 1 inside, 0 outside.

    Returns:
        (K + 1, 3): as `count_pixels`; the first row counts what is outside, over all planes together.
    """
    planes = np.stack([count_pixels(*pair, classes=1) for pair in zip(truth, predicted, strict=True)])
    return np.concatenate([planes[:, 0].sum(axis=0, keepdims=True), planes[:, 1]])


def dice(counts: Counts) -> Floats:
    """2 |A and B| / (|A| + |B|) of counts (..., 3); NaN where both are empty. Dice, 1945; Sorensen, 1948."""
    both, predicted, truth = np.moveaxis(counts.astype(np.float64), -1, 0)
    return _ratio(2 * both, predicted + truth)


def iou(counts: Counts) -> Floats:
    """|A and B| / |A or B| of counts (..., 3); NaN where both are empty. Jaccard, 1912."""
    both, predicted, truth = np.moveaxis(counts.astype(np.float64), -1, 0)
    return _ratio(both, predicted + truth - both)


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    return ratio
