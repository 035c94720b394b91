"""The random changes of one config to an annotated image, and the fitting of images that are evaluated.

Sizes, flips and crops are our own: one resize serves multi-scale training, scale jitter and the final size at once, and
a flip of an array is free, where a composed pipeline costs half a millisecond.
"""

import math

import numpy as np

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.augmentation import affine
from tasks.data.augmentation.appearance import Appearance
from tasks.data.augmentation.geometry import (
    Annotated,
    Fill,
    crop,
    flip,
    quarter_turn,
    random_rectangle,
    resize,
)
from tasks.data.augmentation.operations import Span
from tasks.data.augmentation.policy import RandomPolicy
from tasks.data.evaluated_size import evaluated_part, resized_size, uses_antialias
from tasks.data.files.reduced_decode import Size
from tasks.image_spec import ImageSpec


def fit_for_evaluation(item: Annotated, config: DataConfig) -> None:
    """Resize, and cut out the middle where the config says so, without anything random.

    An image that is smaller than the middle to be cut out stays as it is on that side.
    """
    size, (top, left, height, width) = evaluated_part(item.size, config)
    resize(item, size, uses_antialias(config))
    if config.center_crop is not None:
        crop(item, top, left, (height, width), np.zeros(item.image.shape[2]))  # nothing lies outside


def uses_reduced_decode(config: DataConfig) -> bool:
    """Whether training images may be decoded at a reduced scale."""
    return uses_antialias(config) if config.reduced_decode is None else config.reduced_decode


def fill_of(spec: ImageSpec) -> Fill:
    """(C,) the stored values that become 0 at the network's input, as the padding of batches is."""
    mean, channels = np.array(spec.stored_mean), spec.stored_channels
    # Whether there is a mean for each channel is checked when a model is built.
    mean = mean if len(mean) == channels else np.full(channels, mean.mean())
    return mean if spec.stores_real_numbers else np.round(mean)


class Augmentation:
    """The random changes of one config.

    Args:
        config: which ones, how strong, and the size.
        spec: of the images.
    """

    def __init__(self, config: DataConfig, spec: ImageSpec) -> None:
        self.data, self.config = config, config.augment
        self._antialias, self._fill = uses_antialias(config), fill_of(spec)
        self._span = Span(spec.black, spec.white)
        self._policy = None
        if self.config.policy != "none":
            count, magnitude = self.config.policy_operations, self.config.policy_magnitude
            self._policy = RandomPolicy(
                self.config.policy,
                count,
                magnitude,
                self._span,
                self._fill,
                magnitude_std=self.config.policy_magnitude_std,
                probability=self.config.policy_probability,
            )
        self._appearance: Appearance | None = None  # built in the process that uses it

    def __call__(self, item: Annotated, seed: int) -> None:
        """Resize, move, crop, recolour, flip and erase in place; the draws depend on `seed` alone."""
        config, random = self.config, np.random.default_rng(seed)
        # All are drawn whatever the config, so that switching one on does not change the others; what needs many draws
        # has a generator of its own.
        size = self._resized(item.size, random)
        horizontal, vertical = random.random(2) < (config.horizontal_flip, config.vertical_flip)
        appearance_seed, turns = int(random.integers(2**32)), int(random.integers(4))
        angle, tilt_x, tilt_y = random.uniform(-1, 1, 3)
        crop_at, erases = random.random(2), random.random() < config.erase

        frame = (0, 0, *item.size)
        if config.random_resized_crop:
            size = resized_crop_size(self.data)
            frame = random_rectangle(item.size, config.random_resized_crop, np.random.default_rng([seed, 1]))
        if self._warps:
            tilt = affine.shear(*(math.tan(math.radians(config.shear * tilt)) for tilt in (tilt_x, tilt_y)))
            self._warp(item, frame, size, affine.rotation(config.rotate * angle) @ tilt, seed)
        else:
            crop(item, *frame[:2], frame[2:], self._fill)
            resize(item, size, self._antialias)
        if config.crop:
            top, left = (self._offset(*sides) for sides in zip(item.size, config.crop, crop_at, strict=True))
            crop(item, top, left, config.crop, self._fill)
        if self._policy is not None:
            self._policy(item, np.random.default_rng([seed, 3]))
        if Appearance.wanted(config):
            if self._appearance is None:
                self._appearance = Appearance(config, self._span)
            item.image = self._appearance(item.image, appearance_seed)
        flip(item, bool(horizontal), bool(vertical))
        if config.quarter_turns:
            quarter_turn(item, turns)
        if erases:
            _erase(item, self._fill, np.random.default_rng([seed, 4]))

    def needed(self, size: Size, seed: int) -> Size | None:
        """How large an image of `size` has to be for what becomes of it; None where that needs all of it."""
        if self._warps and not self._antialias:
            return None
        if not self.config.random_resized_crop:
            return self._resized(size, np.random.default_rng(seed))
        _, _, *part = random_rectangle(size, self.config.random_resized_crop, np.random.default_rng([seed, 1]))
        height, width = (
            -(-wanted * whole // own)
            for wanted, whole, own in zip(resized_crop_size(self.data), size, part, strict=True)
        )
        return height, width

    @property
    def _warps(self) -> bool:
        return bool(self.config.rotate or self.config.shear or self.config.elastic)

    def _resized(self, size: Size, random: np.random.Generator) -> Size:
        """By the first two draws of `random`, what an image of `size` is resized to."""
        short = self.data.short_side[int(random.integers(len(self.data.short_side)))]
        jitter = random.uniform(*(self.config.scale_jitter or (1.0, 1.0)))
        height, width = self.data.size or resized_size(size, short, self.data.long_side)
        return max(round(height * jitter), 1), max(round(width * jitter), 1)

    def _warp(
        self, item: Annotated, frame: tuple[int, int, int, int], size: tuple[int, int], tilt: affine.Matrix, seed: int
    ) -> None:
        if self._antialias:  # a warp samples
            crop(item, *frame[:2], frame[2:], self._fill)
            resize(item, size, antialias=True)
            frame = (0, 0, *size)
        displacement = None
        if self.config.elastic:
            displacement = affine.random_displacement(size, self.config.elastic, np.random.default_rng([seed, 2]))
        matrix = affine.about_centre(tilt, size) @ affine.scaling(frame, size)
        affine.warp(item, matrix, size, self._fill, displacement)

    def _offset(self, whole: int, part: int, share: float) -> int:
        """Where a crop begins; an image that is too small lies in its top left corner."""
        padding = self.config.crop_padding
        room = whole + 2 * padding - part
        return int(share * (room + 1)) - padding if room >= 0 else 0


def resized_crop_size(config: DataConfig) -> tuple[int, int]:
    """(height, width) that random crops are resized to; `UserError` where the config does not say."""
    size = config.center_crop or config.size
    if size is None:
        raise UserError(
            f"data.augment.random_resized_crop is {config.augment.random_resized_crop}, but data.size and "
            "data.center_crop are None; expected the size that crops are resized to: set one of them"
        )
    return size


def _erase(item: Annotated, fill: Fill, random: np.random.Generator) -> None:
    """Fill a rectangle of 2 to 33 % of the area and aspect ratio 0.3 to 3.3 (Zhong et al. 2020, algorithm 1)."""
    height, width = item.size
    for _ in range(10):
        area = height * width * random.uniform(0.02, 1 / 3)
        ratio = math.exp(random.uniform(math.log(0.3), math.log(3.3)))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < h < height and 0 < w < width:
            top, left = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
            item.image = item.image.copy()  # it may be a view of a file's pixels
            item.image[top : top + h, left : left + w] = fill
            return
