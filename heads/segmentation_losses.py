"""Losses of the class of every pixel. Ignored pixels take no part in any of them; all are computed in float32.

Shapes: B images, S channels of scores, P planes of a mask, H W pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from heads.contract import IGNORED
from heads.normaliser import mean_count

SegmentationTarget = Literal["multiclass", "binary", "multilabel"]
LossName = Literal["cross_entropy", "dice", "focal", "tversky", "lovasz", "boundary"]

EDGE = 3  # pixels; windows of the boundary loss: one that finds edges, and how far apart two edges may be to agree
TOLERANCE = 5
EPSILON = 1e-7


@dataclass(frozen=True)
class Pixels:
    """What was said of every pixel, and what is known of it.

    Attributes:
        logits: (B, S, H, W) float32.
        truth: one channel holds at a pixel: (B, H, W) int64, which one, `IGNORED` where nobody knows; else, each
            channel holds or not: (B, S, H, W) uint8, 1 or 0, `IGNORED`.
    """

    logits: Tensor
    truth: Tensor

    @property
    def exclusive(self) -> bool:
        """Whether exactly one channel holds at a pixel."""
        return self.truth.ndim == 3

    @cached_property
    def known(self) -> Tensor:
        """(B, 1 or S, H, W) bool, what is not ignored."""
        return self.truth.unsqueeze(1) != IGNORED if self.exclusive else self.truth != IGNORED

    @cached_property
    def positive(self) -> Tensor:
        """(B, S, H, W) bool, the channel holds; False where ignored."""
        if not self.exclusive:
            return self.truth == 1
        channels = torch.arange(self.logits.shape[1], device=self.truth.device)
        return self.truth.unsqueeze(1) == channels.view(-1, 1, 1)

    @cached_property
    def probabilities(self) -> Tensor:
        """(B, S, H, W) float32; zero where ignored."""
        return (self.logits.softmax(dim=1) if self.exclusive else self.logits.sigmoid()) * self.known

    @cached_property
    def surprise(self) -> Tensor:
        """(B, 1 or S, H, W) float32, minus the logarithm of the probability of what is true."""
        if self.exclusive:
            return F.cross_entropy(self.logits, self.truth, ignore_index=IGNORED, reduction="none").unsqueeze(1)
        return F.binary_cross_entropy_with_logits(self.logits, self.positive.float(), reduction="none")


class SegmentationLosses(nn.Module):
    """The weighted losses of a segmentation head.

    - `cross_entropy`: mean over the known pixels; over those of all channels where each has its own sigmoid. With
      class weights as torch's `cross_entropy(weight=)` and `binary_cross_entropy_with_logits(pos_weight=)`.
    - `focal`: that, each pixel times (1 - p) ** gamma, p the probability of what is true (Lin et al.,
      arXiv:1708.02002, equation 5; class weights are their alpha).
    - `dice`, `tversky`: one minus the Tversky index TP / (TP + alpha FP + beta FN) of the whole batch, mean over
      channels, of which those without a true pixel add zero (Salehi et al., arXiv:1706.05721, section 2.3); Dice is
      alpha = beta = 0.5 (Milletari et al., arXiv:1606.04797, without their squares).
    - `lovasz`: the convex extension of the Jaccard loss by image: Lovasz-Softmax over the classes present, or the
      Lovasz hinge of each sigmoid channel (Berman et al., arXiv:1705.08790, equations 9 to 13).
    - `boundary`: one minus a soft F1 of the boundary pixels, which agree within 2 pixels, mean over images and those
      channels that have a boundary there (Bokhovkin and Burnaev, arXiv:1905.07852, section 3.2). It says nothing of
      the inside of an object: give it beside one of the others.

    All of them average over processes to what one process with the whole batch would get.

    Args:
        weights: factor on each loss, by its name.
        target: `multiclass` (softmax), `binary` or `multilabel` (sigmoid).
        background: multiclass: channel 0 is the background; else a pixel of the background is ignored.
        focal_gamma: of `focal`; 0 is `cross_entropy`.
        tversky_alpha: weight of false positives in `tversky`.
        tversky_beta: weight of false negatives in it.
        class_weights: of `cross_entropy` and `focal`. Multiclass: of the pixels of each of the S channels. Sigmoid: of
            the pixels inside each class, those outside count 1.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        weights: Mapping[LossName, float],
        *,
        target: SegmentationTarget,
        background: bool,
        focal_gamma: float,
        tversky_alpha: float,
        tversky_beta: float,
        class_weights: tuple[float, ...] | None,
    ) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.target, self.background = target, background
        self.focal_gamma, self.tversky_alpha, self.tversky_beta = focal_gamma, tversky_alpha, tversky_beta
        factors = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        if factors is not None and target == "multiclass":
            factors /= factors.mean()  # a weighted mean does not change, and the sum of weights is a count of pixels
        # It belongs to the config, which travels with the checkpoint; it is not a weight of the network.
        self.register_buffer("class_weights", factors, persistent=False)

    def forward(self, logits: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Scalars, float32, by loss name.

        Args:
            logits: (B, S, H, W) of any floating type.
            masks: (B, P, H, W) uint8 as in `MaskTargets`.
        """
        with torch.autocast(logits.device.type, enabled=False):
            pixels = Pixels(logits.float(), self._truth(masks))
            return {name: weight * self._loss(name, pixels) for name, weight in self.weights.items()}

    def _truth(self, masks: Tensor) -> Tensor:
        if self.target != "multiclass":
            return masks
        mask = masks[:, 0].long()
        if self.background:
            return mask
        return torch.where((mask == 0) | (mask == IGNORED), IGNORED, mask - 1)

    def _loss(self, name: LossName, pixels: Pixels) -> Tensor:
        if name == "cross_entropy":
            return focal_loss(pixels, 0.0, self.class_weights)
        if name == "focal":
            return focal_loss(pixels, self.focal_gamma, self.class_weights)
        if name == "dice":
            return tversky_loss(pixels, 0.5, 0.5)
        if name == "tversky":
            return tversky_loss(pixels, self.tversky_alpha, self.tversky_beta)
        if name == "lovasz":
            return lovasz_loss(pixels)
        return boundary_loss(pixels)


def focal_loss(pixels: Pixels, gamma: float, class_weights: Tensor | None) -> Tensor:
    """() float32; `gamma` 0 is cross entropy, and `class_weights` (S,); see `SegmentationLosses`."""
    factor = pixels.known.float()
    if class_weights is not None:
        if pixels.exclusive:
            factor = factor * class_weights[pixels.truth.clamp(max=len(class_weights) - 1)].unsqueeze(1)
        else:
            factor = torch.where(pixels.positive, class_weights.view(-1, 1, 1), factor)
    count = factor.sum() if pixels.exclusive else pixels.known.sum().float()
    if gamma:
        # Kept off zero, where a power below 1 has no slope.
        factor = factor * (-torch.expm1(-pixels.surprise)).clamp(min=EPSILON) ** gamma
    return (factor * pixels.surprise).sum() / mean_count(count)


def tversky_loss(pixels: Pixels, alpha: float, beta: float) -> Tensor:
    """() float32; see `SegmentationLosses`."""
    both = torch.where(pixels.positive, pixels.probabilities, 0)
    counts = torch.stack([values.sum(dim=(0, 2, 3)) for values in (both, pixels.probabilities, pixels.positive)])
    hit, said, true = _sum_over_processes(counts).unbind()
    index = hit / (hit + alpha * (said - hit) + beta * (true - hit)).clamp(min=EPSILON)
    return torch.where(true > 0, 1 - index, 0).mean()


def lovasz_loss(pixels: Pixels) -> Tensor:
    """() float32; see `SegmentationLosses`."""
    if pixels.exclusive:
        errors = (pixels.positive.float() - pixels.probabilities).abs()
        counted = pixels.positive.any(dim=(2, 3))
    else:
        margins = torch.where(pixels.positive, pixels.logits, -pixels.logits)
        errors = F.relu(1 - margins)
        counted = pixels.known.any(dim=(2, 3))
    # At error zero a pixel comes last and adds nothing.
    errors = errors.masked_fill(~pixels.known, 0).flatten(2)
    losses = torch.stack([_lovasz(*image) for image in zip(errors, pixels.positive.flatten(2), strict=True)])
    channels = counted.sum(dim=1)
    mean = torch.where(counted, losses, 0).sum(dim=1) / channels.clamp(min=1)
    return mean.sum() / mean_count((channels > 0).sum().float())


def _lovasz(errors: Tensor, positive: Tensor) -> Tensor:
    """(S,) Lovasz extension of the Jaccard loss (Berman et al., algorithm 1), of (S, N) errors and truth."""
    errors, order = errors.sort(dim=1, descending=True)
    found = positive.gather(1, order).cumsum(dim=1)
    total = found[:, -1:]
    ranks = torch.arange(1, errors.shape[1] + 1, device=errors.device)
    # With the first n pixels wrong: the intersection has lost the found ones, the union has gained the others.
    jaccard = 1 - (total - found) / (total + ranks - found)
    return (errors * jaccard.diff(dim=1, prepend=torch.zeros_like(jaccard[:, :1]))).sum(dim=1)


def boundary_loss(pixels: Pixels) -> Tensor:
    """() float32; see `SegmentationLosses`."""
    said, true = _edges(pixels.probabilities, pixels.known), _edges(pixels.positive.float(), pixels.known)
    said_sum, true_sum = said.sum(dim=(2, 3)), true.sum(dim=(2, 3))
    precision = (said * _widest(true, TOLERANCE)).sum(dim=(2, 3)) / said_sum.clamp(min=EPSILON)
    recall = (true * _widest(said, TOLERANCE)).sum(dim=(2, 3)) / true_sum.clamp(min=EPSILON)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=EPSILON)
    present = true_sum > 0
    return torch.where(present, 1 - f1, 0).sum() / mean_count(present.sum().float())


def _edges(inside: Tensor, known: Tensor) -> Tensor:
    """(B, S, H, W), how much of an edge each pixel is: inside, with a known neighbour that is outside."""
    outside = (1 - inside) * known
    return (_widest(outside, EDGE) - outside) * known


def _widest(values: Tensor, window: int) -> Tensor:
    return F.max_pool2d(values, window, stride=1, padding=window // 2)


class _SumOverProcesses(torch.autograd.Function):
    """Sum over processes of a loss that each of them computes from it alike.

    The gradient that reaches a process is then that of the whole loss, once for each process: their mean, which is
    what data-parallel training takes, has to be scaled back to their sum.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * distributed.get_world_size()


def _sum_over_processes(values: Tensor) -> Tensor:
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    total: Tensor = _SumOverProcesses.apply(values)
    return total
