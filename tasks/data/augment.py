"""Resizing for everyone, random changes for training.

Sizes and flips are our own: one resize serves multi-scale training, scale jitter and the final size at once, and a
flip of an array is free, where a composed pipeline costs half a millisecond. Colour and crops are albumentations',
which is imported only when they are asked for (it takes two seconds).
"""

import math
import os
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tasks.config import AugmentConfig, DataConfig
from tasks.data.image_file import Pixels
from tasks.image_spec import ImageSpec


@dataclass(slots=True)
class Annotated:
    """An image with its objects, N of them, all in the pixels of `image`.

    Attributes:
        image: (H, W, C) uint8 or uint16.
        boxes: (N, 4) float64, x1 y1 x2 y2.
        rows: (N,) int64, which annotated object each box is, so that labels and the like can be picked out.
        outlines: (N, H, W) uint8 of 0 and 1, or None.
        masks: (H, W, P) uint8 as in `heads.contract.MaskTargets`, or None.
    """

    image: Pixels
    boxes: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]
    outlines: npt.NDArray[np.uint8] | None = None
    masks: npt.NDArray[np.uint8] | None = None

    def keep(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> None:
        """Leave only these objects."""
        self.boxes, self.rows = self.boxes[chosen], self.rows[chosen]
        self.outlines = None if self.outlines is None else self.outlines[chosen]


def resized_size(size: tuple[int, int], short_side: float, long_side: float) -> tuple[int, int]:
    """(height, width) after resizing: the short side becomes `short_side` unless the long one would pass `long_side`.

    Rounded down, as in torchvision's `GeneralizedRCNNTransform`; at least 1.
    """
    scale = min(short_side / min(size), long_side / max(size))
    return max(math.floor(size[0] * scale), 1), max(math.floor(size[1] * scale), 1)


def resize(item: Annotated, size: tuple[int, int]) -> None:
    """Resize to (height, width): bilinear without antialiasing, outlines by the nearest pixel (torchvision's rule)."""
    height, width = item.image.shape[:2]
    if (height, width) == size:
        return
    factors = np.array([size[1] / width, size[0] / height] * 2)
    item.image = _with_channels(cv2.resize(item.image, size[::-1], interpolation=cv2.INTER_LINEAR))
    item.boxes = item.boxes * factors
    if item.outlines is not None:
        outlines = np.zeros((len(item.outlines), *size), np.uint8)
        for small, large in zip(item.outlines, outlines, strict=True):
            cv2.resize(small, size[::-1], dst=large, interpolation=cv2.INTER_NEAREST)
        item.outlines = outlines
    if item.masks is not None:
        item.masks = _with_channels(cv2.resize(item.masks, size[::-1], interpolation=cv2.INTER_NEAREST))


def flip(item: Annotated, horizontal: bool, vertical: bool) -> None:
    """Mirror left to right, top to bottom, or both."""
    height, width = item.image.shape[:2]
    axes = (0,) * vertical + (1,) * horizontal
    if not axes:
        return
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


def clip(item: Annotated) -> None:
    """Clip boxes to the image and drop the objects of which nothing is left."""
    height, width = item.image.shape[:2]
    item.boxes = item.boxes.clip(0, [width, height, width, height])
    visible = np.asarray((item.boxes[:, 2:] > item.boxes[:, :2]).all(axis=1))
    if item.outlines is not None:
        visible &= item.outlines.any(axis=(1, 2))
    if not visible.all():
        item.keep(visible)


def fit_for_evaluation(item: Annotated, config: DataConfig) -> None:
    """Resize, and cut out the middle where the config says so, without anything random."""
    resize(item, config.size or resized_size(_size(item.image), config.short_side[-1], config.long_side))


class Augmentation:
    """The random changes of one config.

    Args:
        config: which ones, how strong, and the size.
        spec: of the images.
    """

    def __init__(self, config: DataConfig, spec: ImageSpec) -> None:
        self.data, self.config, self.spec = config, config.augment, spec
        self._pipeline: Any = None  # built in the process that uses it

    def __call__(self, item: Annotated, seed: int) -> None:
        """Resize, crop, recolour and flip in place; the draws depend on `seed` alone."""
        config, random = self.config, np.random.default_rng(seed)
        # All are drawn whatever the config, so that switching one on does not change the others.
        short = self.data.short_side[int(random.integers(len(self.data.short_side)))]
        jitter = random.uniform(*(config.scale_jitter or (1.0, 1.0)))
        horizontal, vertical = random.random(2) < (config.horizontal_flip, config.vertical_flip)
        height, width = self.data.size or resized_size(_size(item.image), short, self.data.long_side)
        resize(item, (max(round(height * jitter), 1), max(round(width * jitter), 1)))
        if config.crop or config.colour:
            self._run_pipeline(item, int(random.integers(2**32)))
        flip(item, bool(horizontal), bool(vertical))

    def _run_pipeline(self, item: Annotated, seed: int) -> None:
        if self._pipeline is None:
            self._pipeline = _pipeline(self.config, item.image.shape[2])
        self._pipeline.set_random_seed(seed)
        # albumentations computes in uint8 or in float32 from 0 to 1, which holds all 65,536 levels.
        deep = item.image.dtype == np.uint16
        targets = {"image": item.image.astype(np.float32) / np.float32(65535) if deep else item.image}
        if self.config.crop:
            clip(item)
            targets |= {"bboxes": item.boxes, "rows": np.arange(len(item.boxes))}
            if item.outlines is not None and len(item.outlines):
                targets["masks"] = item.outlines
        out = self._pipeline(**targets)
        item.image = _with_channels(np.round(out["image"] * 65535).astype(np.uint16) if deep else out["image"])
        if self.config.crop:
            if item.outlines is not None:
                item.outlines = np.asarray(out.get("masks", np.zeros((0, *_size(item.image)), np.uint8)))
            item.keep(np.asarray(out["rows"], np.int64))
            item.boxes = np.asarray(out["bboxes"], np.float64).reshape(-1, 4)


def _pipeline(config: AugmentConfig, channels: int) -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask a server for its newest version
    import albumentations as A

    steps: list[Any] = []
    boxes = None
    if config.crop:
        height, width = config.crop
        steps.append(A.RandomCrop(height, width, pad_if_needed=True, pad_position="top_left", p=1.0))
        boxes = A.BboxParams(format="pascal_voc", label_fields=["rows"], min_width=1, min_height=1)
    if config.colour:
        amount = 0.5 * config.colour
        if channels == 3:
            spread = (1 - amount, 1 + amount)
            steps.append(A.ColorJitter(brightness=spread, contrast=spread, saturation=spread, hue=(0, 0), p=1.0))
        else:
            steps.append(A.RandomBrightnessContrast(amount, amount, p=1.0))
    return A.Compose(steps, bbox_params=boxes, seed=0)


def _size(image: Pixels) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _with_channels(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return image[:, :, None] if image.ndim == 2 else image  # cv2 drops a single channel
