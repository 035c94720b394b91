"""An annotated image, and the exact changes of its geometry: resize, crop, mirror, quarter turns.

Each function changes image, boxes, outlines and masks together, in place. Turning by an angle is in `affine`.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from heads.contract import IGNORED
from tasks.data.files.image_file import Pixels

Boxes = npt.NDArray[np.float64]
Masks = npt.NDArray[np.uint8]
MOST_CHANNELS = 128  # that cv2 takes
Fill = npt.NDArray[np.float64]  # (C,) the stored value of pixels that lie outside the image


@dataclass(slots=True)
class Annotated:
    """An image with its objects, N of them, all in the pixels of `image` unless that is not `whole`.

    Attributes:
        image: (H, W, C) uint8, uint16 or float32.
        boxes: (N, 4) float64, x1 y1 x2 y2.
        rows: (N,) int64, which annotated object each box is, so that labels and the like can be picked out.
        outlines: (N, H, W) uint8 of 0 and 1, or None.
        masks: (H, W, P) uint8 as in `heads.contract.MaskTargets`, or None.
        whole: (height, width) of the image before it was decoded at a reduced scale, which everything else is in the
            pixels of; None: it was not. Such an image has to be resized first, or cropped to a part of it and then
            resized.
    """

    image: Pixels
    boxes: Boxes
    rows: npt.NDArray[np.int64]
    outlines: Masks | None = None
    masks: Masks | None = None
    whole: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that boxes, outlines and masks are in."""
        return self.whole or (self.image.shape[0], self.image.shape[1])

    def keep(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> None:
        """Leave only these objects."""
        self.boxes, self.rows = self.boxes[chosen], self.rows[chosen]
        self.outlines = None if self.outlines is None else self.outlines[chosen]


def resize(item: Annotated, size: tuple[int, int], antialias: bool = False) -> None:
    """Resize to (height, width); outlines and masks take the nearest pixel, boxes are scaled.

    Args:
        item: changed in place.
        size: to resize to.
        antialias: as in `resize_image`.
    """
    height, width = item.size
    if (height, width) == size:
        return
    item.image, item.whole = resize_image(item.image, size, antialias), None
    item.boxes = item.boxes * np.array([size[1] / width, size[0] / height] * 2)
    if item.outlines is not None:
        outlines = np.zeros((len(item.outlines), *size), np.uint8)
        for small, large in zip(item.outlines, outlines, strict=True):
            cv2.resize(small, size[::-1], dst=large, interpolation=cv2.INTER_NEAREST_EXACT)
        item.outlines = outlines
    if item.masks is not None:
        planes = range(0, item.masks.shape[2], 64)  # cv2 takes 128 at most
        parts = [
            cv2.resize(item.masks[:, :, i : i + 64], size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) for i in planes
        ]
        item.masks = np.concatenate([with_channels(part) for part in parts], 2)


def resize_image(image: Pixels, size: tuple[int, int], antialias: bool) -> Pixels:
    """(height, width, C) of the same type, by bilinear interpolation.

    Args:
        image: (H, W, C).
        size: to resize to.
        antialias: average the pixels that fall together when the image shrinks, as PIL and torchvision's transforms
            of images do; otherwise sample, as torchvision's detectors do.
    """
    if image.shape[:2] == size:
        return image
    if not antialias or (size[0] >= image.shape[0] and size[1] >= image.shape[1]):
        return with_channels(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR))
    if image.dtype == np.uint8 and image.shape[2] in (3, 4):
        # torch has a fast path for pixels that lie together, which it sees by the strides of all four dimensions.
        pixels = torch.from_numpy(np.ascontiguousarray(image) if image.flags.writeable else image.copy())[None]
        return np.ascontiguousarray(_average(pixels.permute(0, 3, 1, 2), size)[0].permute(1, 2, 0).numpy())
    deep = image.dtype == np.uint16  # torch interpolates uint8 and float32
    usable = image.flags.writeable and min(image.strides) > 0  # torch takes neither constants nor mirrored views
    own = image.astype(np.float32) if deep else image if usable else image.copy()
    resized = _average(torch.from_numpy(own).permute(2, 0, 1)[None], size)
    if image.shape[2] <= MOST_CHANNELS:
        out = with_channels(cv2.merge(list(resized[0].numpy())))  # a tenth of the time of a transposed copy
    else:
        out = np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())
    return np.round(out).astype(np.uint16) if deep else out


def _average(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, height, width) of (B, C, H, W)."""
    return functional.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)


def crop(item: Annotated, top: int, left: int, size: tuple[int, int], fill: Fill) -> None:
    """Cut out a rectangle that may reach over the edges of the image; there masks are `IGNORED`.

    Objects of which less than a pixel is left are dropped. The box of an object that is cut becomes the box of what is
    left of its outline, or, without outlines, of what is left of the box.

    Args:
        item: changed in place.
        top: first row.
        left: first column.
        size: height and width.
        fill: of the image outside.
    """
    height, width = size
    if (top, left, height, width) == (0, 0, *item.size):
        return
    if item.whole is None:
        item.image = _window(item.image, top, left, size, fill)
    else:  # a part, to the nearest of the pixels that there are
        scales = [own / whole for own, whole in zip(item.image.shape, item.whole, strict=False)]
        (y1, y2), (x1, x2) = (
            (round(start * scale), max(round((start + side) * scale), round(start * scale) + 1))
            for start, side, scale in zip((top, left), size, scales, strict=True)
        )
        item.image, item.whole = item.image[y1:y2, x1:x2], size
    item.boxes = item.boxes - np.array([left, top, left, top], np.float64)
    if item.masks is not None:
        item.masks = _window(item.masks, top, left, size, np.array(IGNORED))
    if item.outlines is not None:
        cut = (item.boxes != clipped(item.boxes, size)).any(axis=1)
        moved = _window(item.outlines.transpose(1, 2, 0), top, left, size, np.array(0))
        item.outlines = moved.transpose(2, 0, 1)
        item.boxes[cut] = boxes_of(item.outlines[cut])
    drop_lost(item)


def random_rectangle(
    size: tuple[int, int], areas: tuple[float, float], random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a rectangle with a random share of the area and an aspect ratio of 3/4 to 4/3.

    The aspect ratio is uniform in its logarithm; where nothing fits in ten draws, the largest rectangle in the middle
    with an allowed ratio (Szegedy et al. 2015, Going Deeper with Convolutions, section 6; as in torchvision).
    """
    height, width = size
    ratios = (3 / 4, 4 / 3)
    for _ in range(10):
        area = height * width * random.uniform(*areas)
        ratio = math.exp(random.uniform(math.log(ratios[0]), math.log(ratios[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w
    h, w = min(height, round(width / ratios[0])), min(width, round(height * ratios[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def flip(item: Annotated, horizontal: bool, vertical: bool) -> None:
    """Mirror left to right, top to bottom, or both."""
    height, width = item.size
    axes = (0,) * vertical + (1,) * horizontal
    if not axes:
        return
    if item.image.shape[2] <= MOST_CHANNELS:
        # A mirrored view would be copied pixel by pixel when batches are made: 0.8 ms for 512 x 512, this takes 0.02.
        item.image = with_channels(cv2.flip(item.image, -1 if horizontal and vertical else int(horizontal)))
    else:
        item.image = np.flip(item.image, axes)
    if item.masks is not None:
        item.masks = np.flip(item.masks, axes)
    if item.outlines is not None:
        item.outlines = np.flip(item.outlines, tuple(axis + 1 for axis in axes))
    x1, y1, x2, y2 = item.boxes.T
    if horizontal:
        x1, x2 = width - x2, width - x1
    if vertical:
        y1, y2 = height - y2, height - y1
    item.boxes = np.stack([x1, y1, x2, y2], 1)


def quarter_turn(item: Annotated, times: int) -> None:
    """Turn by 90 degrees against the clock, so many times."""
    for _ in range(times % 4):
        x1, y1, x2, y2 = item.boxes.T
        width = item.image.shape[1]
        item.boxes = np.stack([y1, width - x2, y2, width - x1], 1)
        item.image = np.rot90(item.image)
        if item.masks is not None:
            item.masks = np.rot90(item.masks)
        if item.outlines is not None:
            item.outlines = np.rot90(item.outlines, axes=(1, 2))


def clip(item: Annotated) -> None:
    """Clip boxes to the image and drop the objects of which nothing is left."""
    item.boxes = clipped(item.boxes, item.size)
    visible = np.asarray((item.boxes[:, 2:] > item.boxes[:, :2]).all(axis=1))
    if item.outlines is not None:
        visible &= item.outlines.any(axis=(1, 2))
    if not visible.all():
        item.keep(visible)


def drop_lost(item: Annotated) -> None:
    """Clip boxes to the image and drop the objects that are less than a pixel high or wide in it."""
    item.boxes = clipped(item.boxes, item.size)
    # What has been scaled to a pixel may miss it by a rounding error.
    item.keep(np.asarray((item.boxes[:, 2:] - item.boxes[:, :2] > 1 - 1e-9).all(axis=1)))


def clipped(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """(N, 4), the part of each box that lies in an image of `size` (height, width)."""
    height, width = size
    return boxes.clip(0, [width, height, width, height])


def boxes_of(outlines: Masks) -> Boxes:
    """(N, 4), the smallest box around each outline; of an empty one zeros."""
    boxes = np.zeros((len(outlines), 4))
    for axis, column in ((1, 0), (2, 1)):
        inside = np.asarray(outlines.any(axis=(axis,)))
        length, found = inside.shape[1], np.asarray(inside.any(axis=1))
        boxes[:, column] = np.where(found, inside.argmax(axis=1), 0)
        boxes[:, column + 2] = np.where(found, length - inside[:, ::-1].argmax(axis=1), 0)
    return boxes


def with_channels(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(H, W, C) of what cv2 returns, which drops a single channel."""
    return image[:, :, None] if image.ndim == 2 else image


def _window(
    image: npt.NDArray[Any], top: int, left: int, size: tuple[int, int], fill: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """A part of (H, W, C), a view where it lies inside."""
    h, w = size
    inside = image[max(top, 0) : max(top + h, 0), max(left, 0) : max(left + w, 0)]
    if inside.shape[:2] == size:
        return inside
    whole = np.empty((h, w, image.shape[2]), image.dtype)
    whole[:] = fill
    y, x = max(-top, 0), max(-left, 0)
    whole[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return whole
