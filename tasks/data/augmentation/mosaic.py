"""Four annotated images joined around a random point: mosaic (Bochkovskiy et al., YOLOv4, 2020, section 3.3)."""

from collections.abc import Sequence

import numpy as np

from heads.contract import IGNORED
from tasks.data.augmentation.geometry import Annotated, Fill, Masks, boxes_of, crop, resize

IMAGES = 4
MARGIN = 0.2  # of each side, that the point keeps away from the edges, as in the authors' code


def mosaic(
    parts: Sequence[Annotated], scale: tuple[float, float], fill: Fill, antialias: bool, random: np.random.Generator
) -> Annotated:
    """An image of the size of the first part, with a quarter of it for each part.

    Each part is resized by a random factor. What is larger than its quarter shows a random window; what is smaller lies
    at the point where all meet, with `fill` around it. Boxes become those of the outlines, if there
    are any. An image of a single row or column stays as it is.

    Args:
        parts: 4, of equal channels, type and kinds of annotation; changed.
        scale: range of the factors.
        fill: (C,) where no part lies; masks are `IGNORED` there.
        antialias: as in `resize_image`.
        random: where the draws come from.

    Returns:
        The objects of all parts; their rows are as in the parts, which should therefore number them apart.
    """
    height, width = parts[0].size
    if min(height, width) < 2:
        return parts[0]
    middle_y, middle_x = (
        min(max(round(share * side), 1), side - 1)
        for share, side in zip(random.uniform(MARGIN, 1 - MARGIN, 2).tolist(), (height, width), strict=True)
    )
    factors, shares = random.uniform(*scale, IMAGES).tolist(), random.random((IMAGES, 2)).tolist()
    image = np.empty((height, width, parts[0].image.shape[2]), parts[0].image.dtype)
    masks = None if parts[0].masks is None else np.full((height, width, parts[0].masks.shape[2]), IGNORED, np.uint8)
    outlines: list[Masks] = []
    for number, (part, factor, (share_y, share_x)) in enumerate(zip(parts, factors, shares, strict=True)):
        top, bottom = (middle_y, height) if number >= 2 else (0, middle_y)
        left, right = (middle_x, width) if number % 2 else (0, middle_x)
        resize(part, (max(round(part.size[0] * factor), 1), max(round(part.size[1] * factor), 1)), antialias)
        start_y = _start(part.size[0], bottom - top, number < 2, share_y)
        start_x = _start(part.size[1], right - left, number % 2 == 0, share_x)
        crop(part, start_y, start_x, (bottom - top, right - left), fill)
        image[top:bottom, left:right] = part.image
        if masks is not None and part.masks is not None:
            masks[top:bottom, left:right] = part.masks
        if part.outlines is not None:
            placed = np.zeros((len(part.outlines), height, width), np.uint8)
            placed[:, top:bottom, left:right] = part.outlines
            outlines.append(placed)
            part.boxes = boxes_of(part.outlines)  # resized twice, they may be more than a pixel off
        part.boxes = part.boxes + np.array([left, top, left, top], np.float64)
    return Annotated(
        image,
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.rows for part in parts]),
        np.concatenate(outlines) if outlines else None,
        masks,
    )


def _start(whole: int, quarter: int, before: bool, share: float) -> int:
    """First row (or column) of a part in its quarter, which lies `before` the meeting point or after it."""
    if whole >= quarter:
        return int(share * (whole - quarter + 1))
    return whole - quarter if before else 0
