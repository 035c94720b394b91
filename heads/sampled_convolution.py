"""A 3x3 convolution over a pyramid, at a few of its cells only.

A loss on sampled cells sends no gradient through the others, so convolving the sampled ones again, with gradients,
gives what the backward pass of the whole convolution would, for a small share of its arithmetic and memory.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolve_cells(
    convolution: nn.Conv2d, levels: Sequence[Tensor], level_of: Tensor, row: Tensor, column: Tensor
) -> Tensor:
    """What a 3x3 convolution of stride and padding 1 gives at S cells an image; differentiable in all of its inputs.

    Args:
        convolution: C to D channels.
        levels: L maps (B, C, H, W); channels-last is fastest.
        level_of: (B, S) int64, 0 .. L-1, the level of each cell.
        row: (B, S) int64, within the level.
        column: (B, S) int64.

    Returns:
        (B, S, D) in the type of the levels.
    """
    patches = neighbourhoods(levels, level_of, row, column)
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)
    return F.linear(patches, *cast((weight, convolution.bias), patches))


def linear_at_cells(convolution: nn.Conv2d, cells: Tensor) -> Tensor:
    """A 1x1 convolution of cells (B, S, C) -> (B, S, D)."""
    return F.linear(cells, *cast((convolution.weight.flatten(1), convolution.bias), cells))


def neighbourhoods(levels: Sequence[Tensor], level_of: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """(B, S, 9 * C): the 3 x 3 cells around each one, row by row; zero beyond the border. Arguments as above."""
    steps = torch.arange(9, device=row.device)
    rows, columns = row[..., None] + steps // 3 - 1, column[..., None] + steps % 3 - 1
    image = torch.arange(len(row), device=row.device)[:, None, None]
    around: Tensor | None = None
    for number, level in enumerate(levels):
        _, channels, height, width = level.shape
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width) & (level_of == number)[..., None]
        index = (image * height + rows.clamp(0, height - 1)) * width + columns.clamp(0, width - 1)
        table = level.permute(0, 2, 3, 1).reshape(-1, channels)
        # All samples are looked up in all levels: sorting them first would make the host wait for the device.
        own = torch.where(inside[..., None], F.embedding(index, table), 0)
        around = own if around is None else around + own
    assert around is not None
    return around.flatten(2)


def cast(weights: tuple[Tensor, Tensor | None], cells: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weight and bias in the type of `cells`. Autocast may hold copies of both that were made without gradients."""
    weight, bias = weights
    return weight.to(cells.dtype), None if bias is None else bias.to(cells.dtype)
