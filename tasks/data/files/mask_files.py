"""Masks in which the class of every pixel is drawn: index masks, colour masks, or one for each class."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backbones.errors import UserError
from heads.contract import IGNORED
from tasks.config import SliceAxis
from tasks.data.files.mask_values import Values, read_values
from tasks.data.names import Names
from tasks.label_map import LabelMap


@dataclass(frozen=True, slots=True, eq=False)
class MaskFiles:
    """Masks of I images.

    A single mask an image holds the raw id of a class in every pixel: the stored value of a grey or palette image,
    red * 65536 + green * 256 + blue of a colour one. What is no id of the label map is background. Several masks an
    image hold one class each, in the order of the label map: any value but 0 is inside.

    Attributes:
        names: I * planes file names relative to the root; "" is an empty mask.
        planes: files an image, 1 or K.
        ignored: raw value of pixels that nobody knows the class of, or None.
        values: (I, H, W) the masks themselves, where they are rows of an array and not files; then planes is 1.
    """

    names: Names
    planes: int = 1
    ignored: int | None = None
    values: Tensor | None = None

    def read(
        self, index: int, root: Path, labels: LabelMap, size: tuple[int, int], frame: int = 0, axis: SliceAxis = "axial"
    ) -> npt.NDArray[np.uint8]:
        """(H, W, planes) uint8, as in `heads.contract.MaskTargets`, of an image of `size` (height, width).

        Raises:
            UserError: a file is missing, damaged or of another size.
        """
        masks = np.zeros((*size, self.planes), np.uint8)
        for plane in range(self.planes):
            name = self.names[index * self.planes + plane]
            if not name:
                continue
            values = self._values(index, root / name, size, frame, axis)
            if self.planes == 1:
                masks[:, :, 0] = _class_of_each(values, labels)
            else:
                masks[:, :, plane] = values != 0
            if self.ignored is not None:
                masks[:, :, plane][values == self.ignored] = IGNORED
        return masks

    def _values(self, index: int, path: Path, size: tuple[int, int], frame: int, axis: SliceAxis) -> Values:
        values = self._stored(index, path, frame, axis)
        if values.shape != size:
            found, expected = (f"{width} x {height}" for height, width in (values.shape, size))
            raise UserError(
                f"{path}: the mask is {found} pixels (width x height), its image {expected}; expected the same size: "
                "one of the two was resized or turned, or belongs to another"
            )
        return values

    def _stored(self, index: int, path: Path, frame: int, axis: SliceAxis) -> Values:
        return read_values(path, frame, axis) if self.values is None else self.values[index].numpy().astype(np.int64)

    def present(
        self, root: Path, labels: LabelMap, frames: Sequence[int], axis: SliceAxis = "axial"
    ) -> npt.NDArray[np.bool_]:
        """(I, K) whether each class is drawn anywhere in the masks of each image; `frames` of all of them.

        Raises:
            UserError: a file is missing or damaged.
        """
        ids = np.asarray(labels.ids, np.int64)

        def classes_of(index: int) -> npt.NDArray[np.bool_]:
            found = np.zeros((self.planes, len(ids) if self.planes == 1 else 1), np.bool_)
            for plane in range(self.planes):
                name = self.names[index * self.planes + plane]
                if name:
                    values = self._stored(index, root / name, frames[index], axis)
                    found[plane] = np.isin(ids, values) if self.planes == 1 else values.any()
            return found.reshape(-1)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decoding lets other threads run
            return np.array(list(pool.map(classes_of, range(len(frames)))), np.bool_).reshape(len(frames), len(ids))

    def select(self, indices: npt.NDArray[np.int64]) -> "MaskFiles":
        """Those of these images, in this order."""
        rows = (indices[:, None] * self.planes + np.arange(self.planes)).reshape(-1)
        values = None if self.values is None else self.values[torch.from_numpy(indices)]
        return MaskFiles(self.names.select(rows), self.planes, self.ignored, values)

    @property
    def nbytes(self) -> int:
        """Bytes of the names and masks."""
        return self.names.nbytes + (0 if self.values is None else self.values.nbytes)


def _class_of_each(values: Values, labels: LabelMap) -> npt.NDArray[np.uint8]:
    """Index of the class + 1 of each raw id, 0 for what is none."""
    ids = np.asarray(labels.ids, np.int64)
    order = np.argsort(ids)
    place = np.searchsorted(ids[order], values).clip(max=len(ids) - 1)
    return np.where(ids[order][place] == values, order[place] + 1, 0).astype(np.uint8)
