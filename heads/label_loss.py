"""Losses of labels of whole images, one number an image.

Shapes: B images, K classes. Everything is float32.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def softmax_loss(logits: Tensor, shares: Tensor, weights: Tensor, smoothing: float, gamma: float) -> Tensor:
    """(B,) cross-entropy with any shares of classes; focal with gamma above 0 (Lin et al., arXiv:1708.02002, eq. 4).

    Each class's term is multiplied by `(1 - p) ** gamma`, which for a plain label is the published loss.

    Args:
        logits: (B, K).
        shares: (B, K), rows add up to 1.
        weights: (K,) factor on the terms of each class, as in `torch.nn.functional.cross_entropy`.
        smoothing: this much of each row is spread evenly over all classes (Szegedy et al., arXiv:1512.00567,
            section 7).
        gamma: 0 .. .
    """
    log_p = logits.log_softmax(dim=1)
    terms = smooth(shares, smoothing) * weights * -log_p
    if gamma:
        # Kept above 0, where the slope of a power below 1 is infinite.
        terms = terms * (-torch.expm1(log_p)).clamp(min=1e-12).pow(gamma)
    return terms.sum(dim=1)


def sigmoid_loss(logits: Tensor, shares: Tensor, weights: Tensor, smoothing: float, gamma: float) -> Tensor:
    """(B,) binary cross-entropy, the mean over classes; focal with gamma above 0, as in `softmax_loss`.

    Args:
        logits: (B, K).
        shares: (B, K), each 0 .. 1: whether the class is there.
        weights: (K,) factor on the terms of classes that are there, as `pos_weight` in
            `torch.nn.functional.binary_cross_entropy_with_logits`.
        smoothing: shares are drawn to one half by this much.
        gamma: 0 .. .
    """
    shares = shares * (1 - smoothing) + smoothing / 2
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    there, absent = -log_p, -log_not_p
    if gamma:
        there, absent = there * (gamma * log_not_p).exp(), absent * (gamma * log_p).exp()
    return (shares * weights * there + (1 - shares) * absent).mean(dim=1)


def coral_loss(logits: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """(B,) CORAL: binary cross-entropy of "above rank k", summed over k (Cao et al., arXiv:1901.07884, eq. 4).

    Args:
        logits: (B, K - 1), of being above rank 0 .. K - 2.
        shares: (B, K), rows add up to 1.
        weights: (K,) factor on images of each rank.
    """
    above = shares.flip(1).cumsum(dim=1).flip(1)[:, 1:].clamp(0, 1)
    terms = F.binary_cross_entropy_with_logits(logits, above, reduction="none")
    return terms.sum(dim=1) * (shares * weights).sum(dim=1)


def smooth(shares: Tensor, smoothing: float) -> Tensor:
    """(B, K) with `smoothing` of each row spread evenly over all classes."""
    return shares * (1 - smoothing) + smoothing / shares.shape[1]
