"""Which of a data set's annotations a run needs."""

from dataclasses import dataclass
from typing import Literal

from heads.contract import LabelKind

__all__ = ["LabelKind", "Wanted"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The targets that samples bring.

    Attributes:
        boxes: boxes of objects.
        outlines: their instance masks too.
        labels: labels of whole images, and what they mean; None: none.
        masks: the class of every pixel, in "one" plane or in "each" class's own; None: none.
    """

    boxes: bool = True
    outlines: bool = False
    labels: LabelKind | None = None
    masks: Literal["one", "each"] | None = None
