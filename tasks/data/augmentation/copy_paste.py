"""Objects cut out of one image and pasted upon another (Ghiasi et al., "Simple Copy-Paste", 2021, section 3)."""

import numpy as np
import numpy.typing as npt

from tasks.data.augmentation.geometry import Annotated, Fill, boxes_of, crop, drop_lost


def bring_to_size(item: Annotated, size: tuple[int, int], fill: Fill, random: np.random.Generator) -> None:
    """Cut or pad an image to `size` (height, width) at a random place, without resizing it."""
    top, left = (
        int(share * (whole - part + 1)) if whole >= part else -int(share * (part - whole + 1))
        for whole, part, share in zip(item.size, size, random.random(2).tolist(), strict=True)
    )
    crop(item, top, left, size, fill)


def choose_objects(possible: npt.NDArray[np.bool_], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """A random number of those that are possible, at least one if there is any: (M,) their places, in order."""
    places = np.flatnonzero(possible)
    if not len(places):
        return places
    count = int(random.integers(1, len(places) + 1))
    return np.sort(random.choice(places, count, replace=False))


def copy_paste(item: Annotated, other: Annotated, chosen: npt.NDArray[np.int64]) -> Annotated:
    """`item` with the pixels and the objects of `other` that `chosen` (M,) names laid upon it.

    What they cover is taken away from the outlines below, whose boxes become those of the rest; objects of which less
    than a pixel is left are dropped. Edges are not blended: the authors found no difference.

    Args:
        item: the image below, with outlines.
        other: as large, of equal channels, type and kinds of annotation.
        chosen: places of objects in `other`.

    Returns:
        The objects below and those upon them; rows are as in the two, which should therefore be numbered apart.
    """
    assert item.outlines is not None
    assert other.outlines is not None
    pasted = other.outlines[chosen]
    covered = np.asarray(pasted.any(axis=0))
    image = item.image.copy()
    image[covered] = other.image[covered]
    masks = item.masks
    if masks is not None and other.masks is not None:
        masks = masks.copy()
        masks[covered] = other.masks[covered]
    hit = np.asarray((item.outlines[:, covered] > 0).any(axis=1))
    outlines, boxes = item.outlines.copy(), item.boxes.copy()
    outlines[:, covered] = 0
    boxes[hit] = boxes_of(outlines[hit])
    left = Annotated(image, boxes, item.rows, outlines, masks)
    drop_lost(left)
    left.boxes = np.concatenate([left.boxes, other.boxes[chosen]])
    left.rows = np.concatenate([left.rows, other.rows[chosen]])
    assert left.outlines is not None
    left.outlines = np.concatenate([left.outlines, pasted])
    return left
