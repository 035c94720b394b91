"""The class of every pixel, as it was found."""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tasks.drawing import Picture
from tasks.label_map import LabelMap
from tasks.prediction.found import Found, Mask, Row
from tasks.segmentation.draw import draw_masks


@dataclass(frozen=True, slots=True, eq=False)
class FoundMasks(Found):
    """The class of every pixel of one image.

    Attributes:
        planes: (P, H, W) uint8 in pixels of the original image. One plane: 0 is background, k + 1 is class k. A plane
            for each class, where classes may overlap: 1 inside, 0 outside.
    """

    kind: ClassVar[Literal["boxes", "labels", "masks"]] = "masks"
    planes: npt.NDArray[np.uint8]

    def rows(self, labels: LabelMap) -> list[Row]:
        """One row with `area`, in pixels by class."""
        if len(self.planes) > 1:
            areas = self.planes.sum(axis=(1, 2), dtype=np.int64).tolist()
        else:
            areas = np.bincount(self.planes[0].reshape(-1), minlength=len(labels) + 1)[1:].tolist()
        return [{"area": dict(zip(labels.names, areas, strict=True))}]

    def draw(self, picture: Picture, labels: LabelMap, threshold: float) -> None:
        """Draw the masks; the head has decided about every pixel, so there is nothing to leave out."""
        draw_masks(picture, self.planes, labels)

    def mask_files(self, stem: str, labels: LabelMap) -> tuple[Row, dict[str, Mask]]:
        """The mask as an image, and `mask`, its path, and `values`, the pixel value by class; or `masks`, by class.

        `masks/<stem>.png` has 0 for background and for each class its raw id, if all raw ids are 1 .. 255, else its
        index + 1. Classes that may overlap have a file each, `masks/<stem>_<class>.png`, 255 inside.
        """
        if len(self.planes) > 1:
            paths = {name: f"masks/{stem}_{end}.png" for name, end in zip(labels.names, _endings(labels), strict=True)}
            return {"masks": paths}, {
                path: plane * np.uint8(255) for path, plane in zip(paths.values(), self.planes, strict=True)
            }
        ids_fit = all(1 <= raw <= 255 for raw in labels.ids)
        values = labels.ids if ids_fit else tuple(range(1, len(labels) + 1))
        path = f"masks/{stem}.png"
        row = {"mask": path, "values": dict(zip(labels.names, values, strict=True))}
        return row, {path: np.array([0, *values], np.uint8)[self.planes[0]]}


def _endings(labels: LabelMap) -> list[str]:
    """A part of a file name for each class: its name, with its raw id where names would clash."""
    plain = [re.sub(r"[^\w.-]+", "_", name) for name in labels.names]
    if len({name.casefold() for name in plain}) == len(plain):
        return plain
    return [f"{raw}_{name}" for raw, name in zip(labels.ids, plain, strict=True)]
