"""What one head found in one image, in numpy arrays and in pixels of the original image.

Shapes: N boxes, K classes, P planes of masks, H W pixels.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tasks.drawing import Picture
from tasks.label_map import LabelMap

Mask = npt.NDArray[np.unsignedinteger]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Row = dict[str, Any]


class Found(ABC):
    """What one head found in one image.

    Attributes:
        kind: of the target, as `heads.Head.reads`.
    """

    kind: ClassVar[Literal["boxes", "labels", "masks"]]

    @abstractmethod
    def rows(self, labels: LabelMap) -> list[Row]:
        """What `predictions.json` says of it: values of plain Python types."""

    @abstractmethod
    def draw(self, picture: Picture, labels: LabelMap, threshold: float) -> None:
        """Draw it onto the picture of its image; boxes and labels that score less than `threshold` are left out."""

    def mask_files(self, stem: str, labels: LabelMap) -> tuple[Row, dict[str, Mask]]:
        """Masks as images to be written: what a row says of them, and (H, W) by path, `masks/<stem>...png`.

        Of what has no masks, nothing.
        """
        return {}, {}
