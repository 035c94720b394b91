"""Masks of detections, which are kept as the cells of their boxes, as masks of the image.

Pixel by pixel what torchvision's `paste_masks_in_image` gives: the cells are framed by one of zeros, enlarged
bilinearly to the box, which is widened by that frame and cut to whole pixels, and an object is where they pass 0.5.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from heads.contract import Detections

THRESHOLD = 0.5


def paste_masks(found: Detections) -> Iterator[npt.NDArray[np.uint8]]:
    """(H, W) uint8 of 0 and 1 of each detection in turn, in pixels of the original image, column by column in memory.

    One at a time: a hundred masks of a photograph take as many megabytes. COCO's run lengths go down the columns.

    Raises:
        ValueError: the detections have no masks.
    """
    if found.masks is None or found.image_size is None:
        raise ValueError("these detections have no masks; only heads that read outlines give some")
    height, width = found.image_size
    cells = F.pad(found.masks.float().cpu(), (1, 1, 1, 1))
    boxes = _widened(found.boxes.float().cpu(), found.masks.shape[-1])
    for own, (x1, y1, x2, y2) in zip(cells, boxes.tolist(), strict=True):
        mask = np.zeros((height, width), np.uint8, order="F")
        left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2 + 1, width), min(y2 + 1, height)
        if right > left and bottom > top:
            size = (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
            enlarged = F.interpolate(own[None, None], size, mode="bilinear", align_corners=False)[0, 0]
            inside = enlarged[top - y1 : bottom - y1, left - x1 : right - x1] > THRESHOLD
            mask[top:bottom, left:right] = inside.numpy()
        yield mask


def _widened(boxes: Tensor, cells: int) -> Tensor:
    """(N, 4) int64: boxes with the frame around their cells."""
    scale = (cells + 2) / cells
    half = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * scale
    centre = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    return torch.cat((centre - half, centre + half), dim=1).to(torch.int64)
