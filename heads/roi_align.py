"""RoIAlign over a feature pyramid (Mask R-CNN, https://arxiv.org/abs/1703.06870, section 3; FPN, eq. 1).

`torchvision.ops.roi_align` is the reference and does the work on accelerators. On a CPU, and wherever deterministic
algorithms are asked for, the same sum is written as a gather: an output cell is a weighted sum of feature rows (the
channels of one position), which is an embedding bag; its gradient, sorted by feature row, is another one. No scatter,
no atomic addition.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# FPN eq. 1: a box of 224 pixels, the size of ImageNet crops, is pooled from the level of stride 2**4.
CANONICAL_SIZE = 224
CANONICAL_LEVEL = 4


@dataclass(frozen=True, slots=True)
class Pooling:
    """How a box becomes a small map.

    Attributes:
        size: S, cells along each side.
        sampling_ratio: sample points along each side of a cell; 0 for as many as it has feature cells, rounded up.
        aligned: shift boxes by half a feature cell, so that pixel centres agree (Detectron2); False is what the weights
            published by torchvision were trained with.
    """

    size: int = 7
    sampling_ratio: int = 2
    aligned: bool = False


def roi_align(
    levels: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, image_index: Tensor, pooling: Pooling
) -> Tensor:
    """Pool every box from the one level that suits its size.

    Args:
        levels: L maps (B, C, H, W), finest first; channels-last is fastest on a CPU.
        strides: of the levels, in pixels.
        boxes: (R, 4) x1 y1 x2 y2 in pixels; may lie outside the image, where features count as zero.
        image_index: (R,) int64, 0 .. B-1.

    Returns:
        (R, C, S, S) in the type of the features, contiguous. Differentiable in `levels`, not in `boxes`.
    """
    boxes = boxes.detach().float()
    level_of = assign_levels(boxes, strides)
    gathers = levels[0].device.type == "cpu" or torch.are_deterministic_algorithms_enabled()
    # A gather has equally many points in all boxes; an exported graph has an operator for all of it.
    if gathers and pooling.sampling_ratio and not torch.compiler.is_exporting():
        return gather_roi_align(levels, strides, boxes, image_index, level_of, pooling)
    return reference_roi_align(levels, strides, boxes, image_index, level_of, pooling)


def assign_levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """(R,) int64 in 0 .. L-1: the level each box is pooled from, by FPN eq. 1."""
    finest = int(math.log2(strides[0]))
    scale = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    # The small addend keeps a box of exactly 224 pixels on its level despite rounding.
    level = torch.floor(CANONICAL_LEVEL + torch.log2(scale / CANONICAL_SIZE) + 1e-6)
    return level.clamp(finest, finest + len(strides) - 1).to(torch.int64) - finest


def reference_roi_align(
    levels: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image_index: Tensor,
    level_of: Tensor,
    pooling: Pooling,
) -> Tensor:
    """`roi_align` by torchvision's operator, which computes in float32."""
    rois = torch.cat((image_index[:, None].to(boxes.dtype), boxes), dim=1)
    size = (pooling.size, pooling.size)
    output = levels[0].new_zeros(boxes.shape[0], levels[0].shape[1], *size)
    for number, (features, stride) in enumerate(zip(levels, strides, strict=True)):
        chosen = torch.where(level_of == number)[0]
        pooled = torchvision.ops.roi_align(
            features.float(), rois[chosen], size, 1 / stride, pooling.sampling_ratio, pooling.aligned
        )
        output[chosen] = pooled.to(output.dtype)
    return output


def gather_roi_align(
    levels: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image_index: Tensor,
    level_of: Tensor,
    pooling: Pooling,
) -> Tensor:
    """`roi_align` by embedding bags."""
    plans = []
    for number, (features, stride) in enumerate(zip(levels, strides, strict=True)):
        chosen = torch.where(level_of == number)[0]
        rows, weights = _plan(boxes[chosen], image_index[chosen], stride, features, pooling)
        plans.append(_Plan(chosen, rows, weights))
    output: Tensor = _Gather.apply(plans, pooling.size, *levels)
    return output


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one level contributes.

    Attributes:
        chosen: (r,) int64, the boxes pooled from this level.
        rows: (r * S * S, T) int32, the rows of the features, seen as (B * H * W, C), that each output cell sums.
        weights: (r * S * S, T) of the features' type.
    """

    chosen: Tensor
    rows: Tensor
    weights: Tensor


def _plan(boxes: Tensor, image_index: Tensor, stride: int, features: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor]:
    height, width = features.shape[-2:]
    x1, y1, x2, y2 = (boxes.to(torch.promote_types(features.dtype, torch.float32)) / stride).unbind(-1)
    y, y_weight = _axis(y1, y2, height, pooling)
    x, x_weight = _axis(x1, x2, width, pooling)
    y = (image_index.to(torch.int32)[:, None, None] * height + y) * width
    # (r, S, 1, T, 1) with (r, 1, S, 1, T): every pair of a row's and a column's taps.
    rows = y[:, :, None, :, None] + x[:, None, :, None, :]
    weights = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :]
    return rows.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2).to(features.dtype)


def _axis(start: Tensor, end: Tensor, length: int, pooling: Pooling) -> tuple[Tensor, Tensor]:
    """Taps along one axis: (r, S, 2 * sampling_ratio) positions, int32, and their weights, which sum to 1 inside."""
    ratio = pooling.sampling_ratio
    extent = end - start
    if pooling.aligned:
        start = start - 0.5
    else:
        extent = extent.clamp(min=1.0)
    cell = extent / pooling.size
    steps = torch.arange(pooling.size * ratio, device=start.device).view(pooling.size, ratio)
    whole, part = steps // ratio, (steps % ratio + 0.5) / ratio
    at = start[:, None, None] + whole * cell[:, None, None] + part.to(cell.dtype) * cell[:, None, None]
    # Up to one cell beyond the map the border counts on; further out there is nothing.
    within = ((at >= -1.0) & (at <= length)).to(at.dtype) / ratio
    at = at.clamp(0, length - 1)
    low = at.to(torch.int32)
    high = (low + 1).clamp(max=length - 1)
    fraction = at - low
    return torch.cat((low, high), dim=-1), torch.cat(((1 - fraction) * within, fraction * within), dim=-1)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plans: list[_Plan], size: int, *levels: Tensor) -> Tensor:
        ctx.plans = plans
        ctx.shapes = [features.shape for features in levels]
        channels = levels[0].shape[1]
        output = levels[0].new_empty(sum(len(plan.chosen) for plan in plans), channels, size, size)
        for plan, features in zip(plans, levels, strict=True):
            if len(plan.chosen):
                table = features.detach().permute(0, 2, 3, 1).reshape(-1, channels)
                pooled = F.embedding_bag(plan.rows, table, mode="sum", per_sample_weights=plan.weights)
                output[plan.chosen] = pooled.view(-1, size, size, channels).permute(0, 3, 1, 2)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        cells = gradient.shape[-2] * gradient.shape[-1]
        table = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])
        gradients: list[Tensor | None] = []
        for number, (plan, (images, channels, height, width)) in enumerate(zip(ctx.plans, ctx.shapes, strict=True)):
            if not (ctx.needs_input_grad[2 + number] and len(plan.chosen)):
                gradients.append(None)
                continue
            # The transposed gather: for each feature row, the output cells that read it, in a fixed order.
            rows, order = plan.rows.flatten().sort(stable=True)
            bag_of = (plan.chosen[:, None] * cells + torch.arange(cells, device=table.device)).flatten()
            readers = bag_of[order // plan.rows.shape[1]].to(torch.int32)
            starts = torch.searchsorted(
                rows, torch.arange(images * height * width, dtype=rows.dtype, device=rows.device)
            )
            summed = F.embedding_bag(
                readers, table, starts.to(torch.int32), mode="sum", per_sample_weights=plan.weights.flatten()[order]
            )
            gradients.append(summed.view(images, height, width, channels).permute(0, 3, 1, 2))
        return None, None, *gradients
