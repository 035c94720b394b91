"""Channel attention."""

import torch
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Weighs channels by what the whole map holds (Hu et al., Squeeze-and-Excitation Networks, arXiv:1709.01507, 3).

    Named and sized as timm's: a sixteenth of the channels between the two layers, rounded to a multiple of 8.

    Args:
        channels: C of the (B, C, H, W) it takes.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, (channels // 16 + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and type."""
        weight = torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(weight))
