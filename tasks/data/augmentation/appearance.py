"""Random colour, gamma, blur and noise; the one file that imports albumentations, when it is used."""

import os
from typing import Any

import numpy as np

from tasks.config import AugmentConfig
from tasks.data.augmentation.colour import jitter_colour
from tasks.data.augmentation.operations import Span
from tasks.data.files.image_file import Pixels


class Appearance:
    """What changes pixels and nothing else.

    Args:
        config: which changes, how strong.
        span: black and white; what a deeper image has beyond them is cut off by these changes.
    """

    def __init__(self, config: AugmentConfig, span: Span) -> None:
        self.span, self.colour = span, config.colour
        self._steps = _albumentations(config) if config.gamma or config.blur or config.noise else None

    @staticmethod
    def wanted(config: AugmentConfig) -> bool:
        """Whether there is anything to do."""
        return bool(config.colour or config.gamma or config.blur or config.noise)

    def __call__(self, image: Pixels, seed: int) -> Pixels:
        """(H, W, C) of the same type; the draws depend on `seed` alone."""
        if self.colour:
            image = jitter_colour(image, self.colour, self.span, np.random.default_rng(seed))
        if self._steps is None:
            return image
        self._steps.set_random_seed(seed)
        # albumentations computes in uint8 or in float32 from 0 to 1, which holds all 65,536 levels.
        deep = image.dtype != np.uint8
        changed = self._steps(image=self.span.to_unit(image) if deep else image)["image"]
        changed = changed.reshape(image.shape)
        return self.span.from_unit(changed, image.dtype) if deep else np.asarray(changed)


def _albumentations(config: AugmentConfig) -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask a server for its newest version
    import albumentations as A

    steps: list[Any] = []
    if config.gamma:
        low, high = config.gamma
        steps.append(A.RandomGamma((100 * low, 100 * high), p=1.0))
    if config.blur:
        steps.append(A.GaussianBlur(blur_limit=0, sigma_limit=(0, config.blur), p=1.0))
    if config.noise:
        steps.append(A.GaussNoise(std_range=(0, config.noise), p=1.0))
    return A.Compose(steps, seed=0)
