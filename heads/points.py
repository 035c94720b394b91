"""The cells of a pyramid as points, and boxes as distances from a point to the four sides.

FCOS (https://arxiv.org/abs/1904.01355), section 3.1.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from heads.anchors import Anchors


@dataclass(frozen=True, slots=True)
class Points:
    """Where cells see from, and how large they are; of all levels of one padded batch, level after level.

    Attributes:
        centres: (..., A, 2) float32, x y in pixels.
        size: (..., A) float32, pixels along a side of the cell.
        level: (..., A) int64, number of the level, finest first.
        counts: points a level; they sum to the A of the batch.
    """

    centres: Tensor
    size: Tensor
    level: Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(cls, cells: Anchors) -> Self:
        """Of squares as large as the cells, one a cell."""
        low, high = cells.boxes[:, :2], cells.boxes[:, 2:]
        level = [torch.full((count,), number, device=low.device) for number, count in enumerate(cells.counts)]
        return cls((low + high) / 2, (high - low)[:, 0], torch.cat(level), cells.counts)

    def chosen(self, index: Tensor) -> Self:
        """Those with these indices (B, M), as (B, M, ...)."""
        return type(self)(self.centres[index], self.size[index], self.level[index], self.counts)

    def inside(self, valid: Tensor) -> Tensor:
        """(B, A) bool: in the image, not in its padding; `valid` (B, 2) has height and width."""
        x, y = self.centres.unbind(-1)
        return (y < valid[:, :1]) & (x < valid[:, 1:])


def boxes_around(points: Points, distances: Tensor) -> Tensor:
    """Boxes (..., A, 4) x1 y1 x2 y2 whose left, upper, right and lower sides are `distances` (..., A, 4) cells away."""
    away = distances.float() * points.size[..., None]
    return torch.cat((points.centres - away[..., :2], points.centres + away[..., 2:]), dim=-1)


def distances_to(points: Points, boxes: Tensor) -> Tensor:
    """The inverse: distances (..., A, 4) in cells, negative where a point is outside the box (..., A, 4)."""
    away = torch.cat((points.centres - boxes[..., :2], boxes[..., 2:] - points.centres), dim=-1)
    return away / points.size[..., None]
