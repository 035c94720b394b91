"""What is explained: one number of a prediction."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked to be explained.

    Attributes:
        classes: 0 .. K-1; None is what was predicted.
        top: at most so many of an image.
        threshold: boxes that score less are left out.
        region: of masks: left, top, right, bottom in pixels of the original image; None is the predicted area.
    """

    classes: tuple[int, ...] | None
    top: int
    threshold: float
    region: tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class Subject:
    """One number of the prediction for one image.

    Attributes:
        title: what the picture says it is.
        label: its class, 0 .. K-1.
        value: the number, (), from what `heads.Explainable.class_logits` gives of the image.
        box: (4,) where it lies, x1 y1 x2 y2 in pixels of the original image, if it is a box.
        area: (H, W) bool, where it lies, if it is an area of the original image.
    """

    title: str
    label: int
    value: Callable[[Tensor], Tensor]
    box: Tensor | None = None
    area: Tensor | None = None
