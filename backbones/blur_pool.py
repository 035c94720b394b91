"""Down-sampling that keeps shifts of the image from changing the result."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BlurPool(nn.Module):
    """A 3 x 3 binomial filter of stride 2 (Zhang, Making Convolutional Networks Shift-Invariant, arXiv:1904.11486).

    Args:
        channels: C of the (B, C, H, W) it takes.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", torch.outer(row, row).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), H and W at least 2 -> (B, C, ceil(H / 2), ceil(W / 2)); reflected beyond the border."""
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(x, self.kernel.to(x.dtype), stride=2, groups=len(self.kernel))


def stem_pool(channels: int, antialias: bool) -> nn.Module:
    """The maximum of 3 x 3 pixels at stride 2 that ends a ResNet's stem; blurred, the stride is the blur's."""
    if antialias:
        return nn.Sequential(nn.MaxPool2d(3, 1, 1), BlurPool(channels))
    return nn.MaxPool2d(3, 2, 1)
