"""TrivialAugment and RandAugment: a few operations drawn from a list, for images with any kind of annotation."""

from typing import Literal

import numpy as np

from tasks.data.augmentation import affine, operations
from tasks.data.augmentation.geometry import Annotated, Fill
from tasks.data.augmentation.operations import Span

Policy = Literal["trivial_augment", "rand_augment"]
BINS = 30  # the strongest magnitude; 0 is the weakest
# At the strongest magnitude: shear, rotation in degrees, and what brightness and the like may differ from 1.
_STRONGEST = {"trivial_augment": (0.99, 135.0, 0.99), "rand_augment": (0.3, 30.0, 0.9)}
_SIGNED = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast", "sharpness")
OPERATIONS = ("identity", *_SIGNED, "posterize", "solarize", "autocontrast", "equalize")


class RandomPolicy:
    """TrivialAugment Wide (Mueller & Hutter 2021) or RandAugment (Cubuk et al. 2020), as in torchvision.

    The former applies one operation at a random magnitude, the latter several at a given one, or around it and not
    always, as timm has it. Boxes and masks go along with what moves the image.

    Args:
        policy: which.
        count: operations of RandAugment.
        magnitude: of RandAugment, 0 .. 30.
        span: black and white.
        fill: of the image outside.
        magnitude_std: standard deviation of the magnitude of RandAugment, which stays within 0 .. 30.
        probability: of each operation of RandAugment.
    """

    def __init__(
        self,
        policy: Policy,
        count: int,
        magnitude: int,
        span: Span,
        fill: Fill,
        *,
        magnitude_std: float = 0.0,
        probability: float = 1.0,
    ) -> None:
        self.policy, self.count, self.magnitude, self.span, self.fill = policy, count, magnitude, span, fill
        self.magnitude_std, self.probability = magnitude_std, probability

    def __call__(self, item: Annotated, random: np.random.Generator) -> None:
        """Change `item` in place."""
        if self.policy == "trivial_augment":
            name, any_magnitude = OPERATIONS[random.integers(len(OPERATIONS))], int(random.integers(BINS + 1))
            self.apply(item, name, any_magnitude, random.random() < 0.5)
            return
        for _ in range(self.count):
            name, negative = OPERATIONS[random.integers(len(OPERATIONS))], random.random() < 0.5
            deviation, chance = random.standard_normal(), random.random()
            if chance < self.probability:
                magnitude = min(max(self.magnitude + self.magnitude_std * deviation, 0.0), BINS)
                self.apply(item, name, magnitude, negative)

    def apply(self, item: Annotated, name: str, magnitude: float, negative: bool) -> None:
        """One operation.

        Args:
            item: changed in place.
            name: one of OPERATIONS.
            magnitude: 0 .. 30.
            negative: the other direction, for those that have one.
        """
        share = magnitude / BINS * (-1 if negative and name in _SIGNED else 1)
        moved = self._moves(item.size, name, share)
        if moved is not None:
            affine.warp(item, moved, item.size, self.fill)
        else:
            self._recolour(item, name, share)

    def _moves(self, size: tuple[int, int], name: str, share: float) -> affine.Matrix | None:
        shear, degrees, _ = _STRONGEST[self.policy]
        height, width = size
        # As the authors have it: TrivialAugment moves by pixels, RandAugment by a share of the image.
        wide = self.policy == "trivial_augment"
        across, down = (32.0, 32.0) if wide else (150 / 331 * width, 150 / 331 * height)
        match name:
            case "shear_x":
                return affine.shear(share * shear, 0)
            case "shear_y":
                return affine.shear(0, share * shear)
            case "translate_x":
                return affine.shift(int(share * across), 0)
            case "translate_y":
                return affine.shift(0, int(share * down))
            case "rotate":
                return affine.about_centre(affine.rotation(share * degrees), size)
        return None

    def _recolour(self, item: Annotated, name: str, share: float) -> None:
        *_, most = _STRONGEST[self.policy]
        factor = 1 + share * most
        image, span = item.image, self.span
        match name:
            case "brightness":
                item.image = operations.brightness(image, factor, span)
            case "color":
                item.image = operations.saturation(image, factor, span)
            case "contrast":
                item.image = operations.contrast(image, factor, span)
            case "sharpness":
                item.image = operations.sharpness(image, factor, span)
            case "posterize":
                item.image = operations.posterize(
                    image, 8 - round(share * (6 if self.policy == "trivial_augment" else 4))
                )
            case "solarize":
                item.image = operations.solarize(image, 1 - share, span)
            case "autocontrast":
                item.image = operations.autocontrast(image, span)
            case "equalize":
                item.image = operations.equalize(image, span)
