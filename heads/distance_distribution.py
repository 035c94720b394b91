"""Distances told as distributions over whole numbers (Li et al., https://arxiv.org/abs/2006.04388, section 3.2)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def expected_distances(logits: Tensor) -> Tensor:
    """(...) float32, the means, 0 .. R, of distributions with logits (..., R + 1)."""
    bins = torch.arange(logits.shape[-1], device=logits.device, dtype=torch.float32)
    return (logits.float().softmax(dim=-1) * bins).sum(dim=-1)  # autocast would make a matrix product inexact


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Distribution focal loss (equation 6): the probability has to lie on the two bins around the true distance.

    Args:
        logits: (..., R + 1) float32.
        distances: (...) float32; what is below 0 or above R counts as these.

    Returns:
        (...) float32.
    """
    last = logits.shape[-1] - 1
    distances = distances.clamp(0, last)
    below = distances.floor().clamp(max=last - 1).long()
    above_share = distances - below
    log_p = F.log_softmax(logits, dim=-1)
    lower = log_p.gather(-1, below[..., None])[..., 0]
    upper = log_p.gather(-1, below[..., None] + 1)[..., 0]
    return -(torch.lerp(lower, upper, above_share))
