"""Boxes as offsets from reference boxes (R-CNN, https://arxiv.org/abs/1311.2524, appendix C)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# A side grows at most this much (1000 / 16): exp() of an untrained or diverging prediction must not overflow.
MAX_LOG_SCALE = math.log(1000.0 / 16)


@dataclass(frozen=True, slots=True)
class BoxCoder:
    """Translates boxes to (dx, dy, dw, dh) and back: centre offsets in units of the reference's sides, log side ratios.

    All in float32 whatever the input: in bfloat16 a coordinate above 256 pixels is off by whole pixels.

    Attributes:
        weights: what each of the four is multiplied by, to bring them to unit variance.
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    def encode(self, boxes: Tensor, references: Tensor) -> Tensor:
        """Offsets (..., 4) of `boxes` (..., 4) from `references` (..., 4), both x1 y1 x2 y2 with positive sides."""
        x, y, w, h = _centres(boxes.float())
        rx, ry, rw, rh = _centres(references.float())
        wx, wy, ww, wh = self.weights
        dx, dy = wx * (x - rx) / rw, wy * (y - ry) / rh
        dw, dh = ww * torch.log(w / rw), wh * torch.log(h / rh)
        return torch.stack((dx, dy, dw, dh), dim=-1)

    def decode(self, deltas: Tensor, references: Tensor) -> Tensor:
        """Boxes (..., 4) x1 y1 x2 y2 that lie `deltas` (..., 4) from `references` (..., 4); shapes broadcast."""
        rx, ry, rw, rh = _centres(references.float())
        dx, dy, dw, dh = deltas.float().unbind(-1)
        wx, wy, ww, wh = self.weights
        x, y = dx / wx * rw + rx, dy / wy * rh + ry
        half_w = 0.5 * (torch.exp((dw / ww).clamp(max=MAX_LOG_SCALE)) * rw)
        half_h = 0.5 * (torch.exp((dh / wh).clamp(max=MAX_LOG_SCALE)) * rh)
        return torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), dim=-1)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    w, h = x2 - x1, y2 - y1
    return x1 + 0.5 * w, y1 + 0.5 * h, w, h
