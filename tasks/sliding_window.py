"""Scores of images larger than what a network was trained on, window by window.

Windows are laid out as in MONAI's `sliding_window_inference`: from the top left corner at a fixed step, the last ones
moved back so that they end with the image; the middle of a window counts more than its border, where the network sees
less around a pixel (Isensee et al., "nnU-Net", 2021, section "Inference").
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from heads.contract import ImageSizes
from tasks.config import InferenceConfig
from tasks.data.sample import Batch

SIGMA = 0.125  # standard deviation of the Gaussian, as a share of the window


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along a side of `length` pixels, so that together they cover it."""
    if window >= length:
        return [0]
    step = max(int(window * (1 - overlap)), 1)
    return [*range(0, length - window, step), length - window]


def window_weights(size: tuple[int, int], blend: str, device: torch.device) -> Tensor:
    """(H, W) float32, the weight of each pixel of a window; positive everywhere."""
    if blend == "constant":
        return torch.ones(size, device=device)
    rows, columns = (
        torch.exp(-0.5 * ((torch.arange(n, device=device) - (n - 1) / 2) / (SIGMA * n)) ** 2) for n in size
    )
    weights = rows[:, None] * columns
    # The corners are so far out that they would vanish in single precision; they still have to count where only one
    # window reaches.
    return weights.clamp(min=max(float(weights.min()), 1e-3))


def window_scores(
    score: Callable[[Batch], dict[str, Tensor]], batch: Batch, config: InferenceConfig, divisor: int
) -> dict[str, Tensor]:
    """Scores (B, S, H, W) of the pixels of a batch, by head, put together from windows of `config.window`.

    An image smaller than a window is one window.

    Args:
        score: gives the scores of a batch of windows, as many at a time as `batch` has images.
        batch: whole images.
        config: window, overlap and how windows are blended.
        divisor: windows are padded to multiples of this.
    """
    assert config.window is not None
    totals: dict[str, Tensor] = {}
    for row, (height, width) in enumerate(batch.sizes.valid.tolist()):
        size = min(config.window[0], height), min(config.window[1], width)
        weights = window_weights(size, config.blend, batch.images.device)
        starts = [
            (top, left)
            for top in window_starts(height, size[0], config.overlap)
            for left in window_starts(width, size[1], config.overlap)
        ]
        weight = torch.zeros(batch.sizes.padded, device=batch.images.device)
        for first in range(0, len(starts), len(batch)):
            some = starts[first : first + len(batch)]
            for name, scores in score(_windows(batch, row, some, size, divisor)).items():
                if name not in totals:
                    totals[name] = scores.new_zeros((len(batch), scores.shape[1], *batch.sizes.padded))
                for (top, left), own in zip(some, scores, strict=True):
                    part = totals[name][row, :, top : top + size[0], left : left + size[1]]
                    part += own[:, : size[0], : size[1]] * weights
            for top, left in some:
                weight[top : top + size[0], left : left + size[1]] += weights
        for total in totals.values():
            total[row, :, :height, :width] /= weight[:height, :width]
    return totals


def _windows(batch: Batch, row: int, starts: list[tuple[int, int]], size: tuple[int, int], divisor: int) -> Batch:
    """The windows of one image as a batch of their own."""
    height, width = (-(-side // divisor) * divisor for side in size)
    images = batch.images.new_zeros((len(starts), batch.images.shape[1], height, width)).contiguous(
        memory_format=torch.channels_last
    )
    for image, (top, left) in zip(images, starts, strict=True):
        image[:, : size[0], : size[1]] = batch.images[row, :, top : top + size[0], left : left + size[1]]
    valid = torch.tensor([size] * len(starts), device=batch.images.device)
    return replace(batch, images=images, sizes=ImageSizes((height, width), valid, valid))
