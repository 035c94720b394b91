"""What the arithmetic of a step would take at the rate of a large convolution: nothing can be faster by much."""

import statistics
import time

import torch
from torch import nn

from tasks.benchmark.accelerator import device, synchronise

CHANNELS, SIDE, IMAGES = 256, 64, 4


def convolution_rate(precision: torch.dtype, repeats: int = 7) -> float:
    """Multiply-adds a second of a 3x3 convolution of 256 channels on 4 maps of 64 x 64, channels last; median."""
    layer = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False).to(device(), precision)
    layer = layer.to(memory_format=torch.channels_last)
    maps = (
        torch.randn(IMAGES, CHANNELS, SIDE, SIDE).to(device(), precision).contiguous(memory_format=torch.channels_last)
    )
    seconds = []
    with torch.inference_mode():
        for number in range(repeats + 2):
            start = time.perf_counter()
            layer(maps)
            synchronise()
            if number >= 2:
                seconds.append(time.perf_counter() - start)
    return IMAGES * SIDE**2 * CHANNELS**2 * 9 / statistics.median(seconds)
