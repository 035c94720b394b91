"""The class of every pixel of an annotated image, from mask files or from the outlines of its objects."""

import numpy as np
import numpy.typing as npt

from heads.contract import IGNORED
from tasks.data.annotations import Annotations


def semantic_masks(
    annotations: Annotations, index: int, size: tuple[int, int], overlapping: bool
) -> npt.NDArray[np.uint8]:
    """(H, W, P) uint8 of an image of `size` (height, width), as in `heads.contract.MaskTargets`.

    Outlines are painted from the largest object to the smallest, so that what lies upon another stays visible (in one
    plane); an object without an outline fills its box. A crowd region is painted as the class it is annotated as.

    Args:
        annotations: the split; it has mask files, or was read with outlines.
        index: of the image.
        size: of the stored image.
        overlapping: a plane for each class instead of a single one.

    Raises:
        UserError: a mask file cannot be used.
    """
    count = len(annotations.label_map)
    if annotations.mask_files is not None:
        files, frame = annotations.mask_files, annotations.frame(index)
        planes = files.read(index, annotations.root, annotations.label_map, size, frame, annotations.slice_axis)
        if overlapping == (planes.shape[2] > 1) or (count == 1 and planes.shape[2] == 1):
            return planes
        return _one_plane(planes) if not overlapping else _planes(planes[:, :, 0], count)
    objects, masks = annotations.objects(index), annotations.masks(index, size)
    painted = np.zeros((*size, count if overlapping else 1), np.uint8)
    for row in np.argsort(-masks.sum(axis=(1, 2), dtype=np.int64), kind="stable").tolist():
        label = int(objects.labels[row])
        plane, value = (label, 1) if overlapping else (0, label + 1)
        painted[:, :, plane][masks[row] > 0] = value
    return painted


def _planes(mask: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """A plane for each class out of one."""
    planes: npt.NDArray[np.uint8] = (mask[:, :, None] == np.arange(1, count + 1)).astype(np.uint8)
    planes[mask == IGNORED] = IGNORED
    return planes


def _one_plane(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One plane out of one for each class; where classes overlap, the last one is seen."""
    mask = np.zeros((*planes.shape[:2], 1), np.uint8)
    for label in range(planes.shape[2]):
        mask[planes[:, :, label] == 1] = label + 1
    mask[(planes == IGNORED).any(axis=2)] = IGNORED
    return mask
