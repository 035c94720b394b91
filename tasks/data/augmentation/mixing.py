"""Mixing an image with another one of its data set, labels and all: mixup and CutMix."""

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tasks.config import AugmentConfig
from tasks.data.augmentation.geometry import resize_image
from tasks.data.files.image_file import Pixels


def mixes(config: AugmentConfig) -> bool:
    """Whether images are mixed at all."""
    return bool((config.mixup or config.cutmix) and config.mix_probability)


def mix(image: Pixels, other: Pixels, config: AugmentConfig, random: np.random.Generator) -> tuple[Pixels, float]:
    """A mixture with the size and type of `image`, and the share that `image` has in it, 0 .. 1.

    Where both kinds are on, either is taken in half of the cases.

    Args:
        image: (H, W, C).
        other: to mix it with, brought to the same size.
        config: the parameters of the Beta distributions that the share is drawn from.
        random: where the draws come from.
    """
    other = resize_image(np.ascontiguousarray(other), (image.shape[0], image.shape[1]), antialias=True)
    cut = bool(config.cutmix) and (not config.mixup or random.random() < 0.5)
    alpha = config.cutmix if cut else config.mixup
    share = float(random.beta(alpha, alpha))
    return cutmix(image, other, share, random) if cut else (mixup(image, other, share), share)


def mixup(image: Pixels, other: Pixels, share: float) -> Pixels:
    """share * image + (1 - share) * other, rounded for whole numbers (Zhang et al. 2018, equation 1)."""
    mixed: npt.NDArray[Any] = cv2.addWeighted(np.ascontiguousarray(image), share, other, 1 - share, 0)
    return mixed.reshape(image.shape)


def cutmix(image: Pixels, other: Pixels, share: float, random: np.random.Generator) -> tuple[Pixels, float]:
    """`image` with a rectangle of `other` around a random point, and the share of it that is still seen.

    The rectangle has 1 - share of the area and the image's aspect ratio, before it is cut off at the edges (Yun et al.
    2019, equation 2).
    """
    height, width = image.shape[:2]
    side = math.sqrt(1 - share)
    h, w = int(height * side), int(width * side)
    y, x = int(random.integers(height)), int(random.integers(width))
    rows = slice(max(y - h // 2, 0), min(y - h // 2 + h, height))
    columns = slice(max(x - w // 2, 0), min(x - w // 2 + w, width))
    mixed = image.copy()
    mixed[rows, columns] = other[rows, columns]
    return mixed, 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
