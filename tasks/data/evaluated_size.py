"""The size in which images are evaluated and predicted. Exported files need it too, so nothing heavy is imported."""

import math

from tasks.config import DataConfig


def resized_size(size: tuple[int, int], short_side: float, long_side: float) -> tuple[int, int]:
    """(height, width) after resizing: the short side becomes `short_side` unless the long one would pass `long_side`.

    Rounded down, as in torchvision's `GeneralizedRCNNTransform`; at least 1.
    """
    scale = min(short_side / min(size), long_side / max(size))
    return max(math.floor(size[0] * scale), 1), max(math.floor(size[1] * scale), 1)


def evaluated_part(size: tuple[int, int], config: DataConfig) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The size that an image is resized to for evaluation, and what is kept of it: top, left, height, width."""
    resized = config.size or resized_size(size, config.short_side[-1], config.long_side)
    height, width = (min(pair) for pair in zip(resized, config.center_crop or resized, strict=True))
    # Rounded as in torchvision.
    return resized, (round((resized[0] - height) / 2), round((resized[1] - width) / 2), height, width)


def uses_antialias(config: DataConfig) -> bool:
    """Whether images are averaged where they shrink."""
    if config.antialias is not None:
        return config.antialias
    return bool(config.size or config.center_crop or config.augment.random_resized_crop)
