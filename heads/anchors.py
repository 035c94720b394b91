"""Anchor boxes of a feature pyramid: one or several sizes a level, several aspect ratios, at every cell.

Faster R-CNN (https://arxiv.org/abs/1506.01497), section 3.1.1; FPN (https://arxiv.org/abs/1612.03144), section 4.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PLACE_BITS = 20  # of a row's or column's number
PLACE_MASK = (1 << PLACE_BITS) - 1


@dataclass(frozen=True, slots=True)
class AnchorPlaces:
    """Where some anchors are.

    Attributes:
        level: (B, S) int64, from 0, the finest.
        row: (B, S) int64, of the cell.
        column: (B, S) int64.
        ratio: (B, S) int64, which of the cell's anchors.
    """

    level: Tensor
    row: Tensor
    column: Tensor
    ratio: Tensor


@dataclass(frozen=True, slots=True)
class Anchors:
    """The anchors of all levels of one padded batch, level after level; in a level by row, column, aspect ratio, size.

    Attributes:
        boxes: (A, 4) float32, x1 y1 x2 y2 in pixels.
        elements: (A,) int64, a number for each anchor that depends on its level, row, column, ratio and size alone, not
            on the size of the grid: the same anchor of the same image has it in every batch.
        counts: anchors a level; they sum to A.
        per_cell: anchors at each cell of a level.
    """

    boxes: Tensor
    elements: Tensor
    counts: tuple[int, ...]
    per_cell: int

    def places(self, index: Tensor) -> AnchorPlaces:
        """Of the anchors with these numbers, (B, S) int64 in 0 .. A-1."""
        elements = self.elements[index]
        kind = elements >> (2 * PLACE_BITS)
        row, column = (elements >> PLACE_BITS) & PLACE_MASK, elements & PLACE_MASK
        return AnchorPlaces(kind // self.per_cell, row, column, kind % self.per_cell)

    def inside(self, valid: Tensor) -> Tensor:
        """(B, A) bool: the anchor's centre lies in the image, not in its padding; `valid` (B, 2) has height, width."""
        x, y = ((self.boxes[:, :2] + self.boxes[:, 2:]) / 2).unbind(-1)
        return (y < valid[:, :1]) & (x < valid[:, 1:])


class AnchorGenerator(nn.Module):
    """Makes the anchors for given grids.

    Sides are rounded so that corners fall on whole pixels, and cells lie `padded size // grid size` pixels apart, as in
    torchvision, whose trained weights expect both. (The latter moves P6, when P5 has an odd number of cells.) With
    `strides` neither is done, as in Detectron2 and MMDetection.

    Args:
        sizes: square root of the anchors' area in pixels, one a level, or several, of every level as many.
        ratios: height / width.
        strides: pixels between the cells of each level; sides are as long as size and ratio say then. None: as above.
        offset: of the centre of the first anchors, right of and below the corner of the image, in cells; 0 or, where
            strides are given, up to 1.
    """

    base: Tensor

    def __init__(
        self,
        sizes: Sequence[float | Sequence[float]],
        ratios: Sequence[float],
        strides: Sequence[int] | None = None,
        offset: float = 0.0,
    ) -> None:
        super().__init__()
        self.strides, self.offset = strides, offset
        heights = torch.tensor(list(ratios), dtype=torch.float32).sqrt()
        shape = torch.stack((-1 / heights, -heights, 1 / heights, heights), dim=1)
        several = [tuple(size) if isinstance(size, Sequence) else (size,) for size in sizes]
        side = torch.tensor(several, dtype=torch.float32)
        base = (shape[:, None] * side[:, None, :, None]).flatten(1, 2) / 2
        self.register_buffer("base", base.round() if strides is None else base, persistent=False)

    @property
    def per_cell(self) -> int:
        """Anchors at each cell of a level."""
        return self.base.shape[1]

    def forward(self, padded: tuple[int, int], grids: Sequence[tuple[int, int]]) -> Anchors:
        """Anchors for an image of `padded` height and width whose levels have `grids` rows and columns."""
        boxes, elements = [], []
        for level, (base, (rows, columns)) in enumerate(zip(self.base.float(), grids, strict=True)):
            y = torch.arange(rows, device=base.device)[:, None, None]
            x = torch.arange(columns, device=base.device)[None, :, None]
            ratio = torch.arange(self.per_cell, device=base.device)
            if self.strides is None:
                step_y, step_x = padded[0] // rows, padded[1] // columns
            else:
                step_y = step_x = self.strides[level]
            at_x = (x * step_x + self.offset * step_x).expand(rows, columns, 1)
            at_y = (y * step_y + self.offset * step_y).expand(rows, columns, 1)
            boxes.append((torch.stack((at_x, at_y, at_x, at_y), dim=-1) + base).reshape(-1, 4))
            kind = level * self.per_cell + ratio
            elements.append(((kind << 2 * PLACE_BITS) + (y << PLACE_BITS) + x).reshape(-1))
        counts = tuple(level.shape[0] for level in boxes)
        return Anchors(torch.cat(boxes), torch.cat(elements), counts, self.per_cell)
