"""Boxes that were found, and their masks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
from hotcoco import mask as coco_mask

from tasks.detection.draw import draw_boxes, draw_outlines
from tasks.drawing import Picture
from tasks.label_map import LabelMap
from tasks.prediction.found import Floats, Found, Ints, Mask, Row

INSIDE = 0.5  # share of a cell from which on a pixel belongs to the object


@dataclass(frozen=True, slots=True, eq=False)
class FoundBoxes(Found):
    """Objects as boxes, best first.

    Attributes:
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the original image.
        scores: (N,) float32, 0 .. 1.
        labels: (N,) int64, 0 .. K-1.
        image_size: (height, width) of the original image; only masks need it.
        cells: (N, M, M) float32, 0 .. 1, how likely each of M x M equal cells of the box belongs to the object; None
            from heads that find no masks.
    """

    kind: ClassVar[Literal["boxes", "labels", "masks"]] = "boxes"
    boxes: Floats
    scores: Floats
    labels: Ints
    image_size: tuple[int, int] | None = None
    cells: Floats | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def chosen(self, kept: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "FoundBoxes":
        """Only these, by a mask (N,) or by their numbers."""
        cells = None if self.cells is None else self.cells[kept]
        return FoundBoxes(self.boxes[kept], self.scores[kept], self.labels[kept], self.image_size, cells)

    def masks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """(H, W) uint8 of 0 and 1 of each object in turn, column by column in memory, as COCO's run lengths go.

        As torchvision's `paste_masks_in_image`: the cells are framed by one of zeros, enlarged bilinearly to the box,
        which is widened by that frame and cut to whole pixels, and an object is where they pass 0.5. One at a time: a
        hundred masks of a photograph take as many megabytes.

        Raises:
            ValueError: there are no masks.
        """
        if self.cells is None or self.image_size is None:
            raise ValueError("these detections have no masks; only heads that read outlines give some")
        height, width = self.image_size
        cells = np.pad(self.cells.astype(np.float32, copy=False), ((0, 0), (1, 1), (1, 1)))
        boxes = _widened(self.boxes.astype(np.float32, copy=False), self.cells.shape[-1])
        for own, (x1, y1, x2, y2) in zip(cells, boxes.tolist(), strict=True):
            mask = np.zeros((height, width), np.uint8, order="F")
            left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2 + 1, width), min(y2 + 1, height)
            if right > left and bottom > top:
                size = (max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1))
                enlarged = cv2.resize(own, size, interpolation=cv2.INTER_LINEAR)
                mask[top:bottom, left:right] = enlarged[top - y1 : bottom - y1, left - x1 : right - x1] > INSIDE
            yield mask

    def run_lengths(self) -> list[str]:
        """COCO's compressed `counts` of each mask; see `masks`."""
        return [coco_mask.encode(mask)["counts"].decode("ascii") for mask in self.masks()]

    def rows(self, labels: LabelMap) -> list[Row]:
        """All of them, whatever they score, as COCO's results json has them: `bbox`, and `segmentation` of masks."""
        rows: list[Row] = []
        for (x1, y1, x2, y2), score, label in zip(
            self.boxes.astype(np.float64).tolist(), self.scores.astype(np.float64).tolist(), self.labels, strict=True
        ):
            box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
            rows.append({"category_id": labels.ids[int(label)], "bbox": box, "score": round(score, 5)})
        if self.cells is not None and self.image_size is not None:
            for row, counts in zip(rows, self.run_lengths(), strict=True):
                row["segmentation"] = {"size": list(self.image_size), "counts": counts}
        return rows

    def draw(self, picture: Picture, labels: LabelMap, threshold: float) -> None:
        """Draw the boxes that score at least `threshold`, with their masks."""
        drawn = self.chosen(self.scores >= threshold)
        if drawn.cells is not None:
            draw_outlines(picture, drawn.masks(), drawn.labels)
        draw_boxes(picture, drawn.boxes, drawn.labels, labels, drawn.scores)

    def mask_files(self, stem: str, labels: LabelMap) -> tuple[Row, dict[str, Mask]]:
        """One image, `masks/<stem>_instances.png`: 0 where nothing is, n where the n-th object is, from 1.

        Where objects overlap, the one that scores more is seen.
        """
        if self.cells is None or self.image_size is None:
            return {}, {}
        numbers = np.zeros(self.image_size, np.uint16)
        for number, mask in enumerate(self.masks(), start=1):
            numbers[(mask > 0) & (numbers == 0)] = number
        return {}, {f"masks/{stem}_instances.png": numbers}


def _widened(boxes: Floats, cells: int) -> Ints:
    """(N, 4) int64: boxes with the frame around their cells."""
    scale = np.float32((cells + 2) / cells)
    half = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5) * scale
    centre = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    return np.concatenate((centre - half, centre + half), axis=1).astype(np.int64)
