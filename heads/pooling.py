"""A feature map as one vector an image, from the part of the padded batch that holds the image."""

from typing import Literal

import torch
from torch import Tensor, nn

PoolingKind = Literal["average", "max", "gem"]
# Features below it count as it in GeM: the slope of x ** p is infinite or undefined at 0 for some p.
GEM_FLOOR = 1e-6


class MaskedPooling(nn.Module):
    """Pools each image over its own cells, so that what it is padded with does not change its vector.

    A cell belongs to the image if any of its pixels does. Without padding, `average` is exactly global average pooling
    as torchvision's classifiers have it. Computed in float32, whatever the map has.

    Args:
        kind: `average`, `max`, or `gem`, the generalised mean `mean(x ** p) ** (1 / p)` with one learned p that starts
            at 3 (Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", arXiv:1711.02512,
            section 3.2); between average (p = 1) and max, and for features that are not negative.
        stride: pixels a cell.
    """

    def __init__(self, kind: PoolingKind, stride: int) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride
        if kind == "gem":
            # One dimension and not none: such weights are spared decay, and p should not be drawn to 0.
            self.power = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, level: Tensor, valid: Tensor) -> Tensor:
        """Map (B, C, h, w) and sizes (B, 2) of the images in pixels of the padded batch -> (B, C) float32."""
        level = level.float()
        height, width = level.shape[2:]
        cells = (valid + self.stride - 1) // self.stride
        rows, columns = torch.arange(height, device=valid.device), torch.arange(width, device=valid.device)
        inside = (rows < cells[:, :1])[:, None, :, None] & (columns < cells[:, 1:])[:, None, None, :]
        if self.kind == "max":
            return torch.where(inside, level, -torch.inf).amax(dim=(2, 3))
        # A mean over all cells times a factor that is exactly 1 without padding.
        share = height * width / (cells[:, :1].clamp(max=height) * cells[:, 1:].clamp(max=width)).float()
        if self.kind == "average":
            # Not masked_fill, which would rearrange a channels-last map and so the order of the sum.
            return torch.where(inside, level, 0.0).mean(dim=(2, 3)) * share
        powers = level.clamp(min=GEM_FLOOR).pow(self.power)
        return (torch.where(inside, powers, 0.0).mean(dim=(2, 3)) * share).pow(1 / self.power)
