"""Losses of classes at every cell of a pyramid, where nearly all of them are background."""

import torch
from torch import Tensor
from torch.nn import functional as F


def focal_loss_sum(
    logits: Tensor, labels: Tensor, positive: Tensor, negative: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Focal loss (Lin et al., https://arxiv.org/abs/1708.02002, equation 5), a sigmoid for each class.

    Args:
        logits: (B, A, K) float32.
        labels: (B, A) int64, the class where positive.
        positive: (B, A) bool.
        negative: (B, A) bool, disjoint from it: background, no class is there. What is neither adds nothing.
        alpha: weight of the class that is there, 0 .. 1; of all others 1 - alpha.
        gamma: how much less the easy ones count, 0 .. .

    Returns:
        (B,) float32, the sum of each image.
    """
    classes = torch.arange(logits.shape[-1], device=logits.device)
    there = (labels[..., None] == classes) & positive[..., None]
    wrong = torch.where(there, -logits, logits)  # logit of being wrong
    weight = torch.where(there, alpha, 1 - alpha) * (positive | negative)[..., None]
    return (weight * _power(wrong.sigmoid(), gamma) * F.softplus(wrong)).sum(dim=(1, 2))


def quality_focal_loss_sum(logits: Tensor, quality: Tensor, counted: Tensor, beta: float) -> Tensor:
    """Quality focal loss (Li et al., https://arxiv.org/abs/2006.04388, equation 2), a sigmoid for each class.

    Args:
        logits: (B, A, K) float32.
        quality: (B, A, K) float32, 0 .. 1: how good the box of a class is that is there; 0 for all others.
        counted: (B, A) bool; what is not counted adds nothing.
        beta: how much less those count whose score is near its quality, 0 .. ; 0 is binary cross-entropy.

    Returns:
        () float32.
    """
    loss = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (_power((quality - logits.sigmoid()).abs(), beta) * loss * counted[..., None]).sum()


def _power(base: Tensor, exponent: float) -> Tensor:
    """`base ** exponent`, with a slope that is finite at 0 for powers below 1."""
    if exponent == 0:
        return torch.ones_like(base)
    return base**exponent if exponent >= 1 else base.clamp(min=1e-12) ** exponent
