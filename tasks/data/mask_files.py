"""Files in which the class of every pixel is drawn: index masks, colour masks, or one file for each class."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.config import SliceAxis
from tasks.data.names import Names
from tasks.label_map import LabelMap


@dataclass(frozen=True, slots=True, eq=False)
class MaskFiles:
    """Mask files of I images.

    A single file an image holds the raw id of a class in every pixel: the stored value of a grey or palette image,
    red * 65536 + green * 256 + blue of a colour one. What is no id of the label map is background. Several files an
    image hold one class each, in the order of the label map: any value but 0 is inside.

    Attributes:
        names: I * planes file names relative to the root; "" is an empty mask.
        planes: files an image, 1 or K.
        ignored: raw value of pixels that nobody knows the class of, or None.
    """

    names: Names
    planes: int = 1
    ignored: int | None = None

    def read(
        self, index: int, root: Path, labels: LabelMap, size: tuple[int, int], frame: int = 0, axis: SliceAxis = "axial"
    ) -> npt.NDArray[np.uint8]:
        """(H, W, planes) uint8, as in `heads.contract.MaskTargets`, of an image of `size` (height, width).

        Raises:
            UserError: a file is missing, damaged or of another size.
        """
        raise NotImplementedError

    def select(self, indices: npt.NDArray[np.int64]) -> "MaskFiles":
        """Those of these images, in this order."""
        rows = (indices[:, None] * self.planes + np.arange(self.planes)).reshape(-1)
        return MaskFiles(self.names.select(rows), self.planes, self.ignored)

    @property
    def nbytes(self) -> int:
        """Bytes of the names."""
        return self.names.nbytes
