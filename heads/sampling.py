"""A random subset of positives and negatives that depends on nothing but each image's own seed."""

import torch
from torch import Tensor

_MASK = (1 << 62) - 1


def priorities(seeds: Tensor, purpose: int, elements: Tensor) -> Tensor:
    """Pseudo-random numbers, one for each image and element, equal bit for bit on every device.

    A counter-based generator (the mixing function of SplitMix64, Steele et al. 2014, https://doi.org/10.1145/2660193.2660195):
    no state, so that neither order nor batch can change a draw.

    Args:
        seeds: (B,) int64.
        purpose: a constant that keeps the draws of different readers of one seed apart.
        elements: (A,) int64, what is drawn for.

    Returns:
        (B, A) int64, 0 .. 2**62 - 1.
    """
    keys = _mix(_mix(seeds) + purpose)
    return _mix(keys[:, None] ^ _mix(elements)) & _MASK


def _mix(x: Tensor) -> Tensor:
    # int64 products wrap around alike on all devices; `>>` copies the sign, so the bits shifted in are masked away.
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _signed(0x94D049BB133111EB)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _signed(unsigned: int) -> int:
    return unsigned - (1 << 64)


def subsample(
    positive: Tensor, negative: Tensor, priority: Tensor, size: int, positive_fraction: float
) -> tuple[Tensor, Tensor]:
    """Draw `size` elements an image, of which at most a fraction is positive; negatives fill the rest.

    Args:
        positive: (B, A) bool.
        negative: (B, A) bool, disjoint from `positive`; an element that is neither is never drawn.
        priority: (B, A) int64, 0 .. 2**62 - 1; the largest are drawn.
        size: elements an image.
        positive_fraction: 0 .. 1.

    Returns:
        (B, S) int64 indices into A, positives first, S = min(size, A), and (B, S) bool: False where an image had too
        few elements to draw from; the index there is arbitrary.
    """
    elements = positive.shape[1]
    kept = _largest(torch.where(positive, priority, -1), min(int(size * positive_fraction), elements))
    # One more bit puts the drawn positives above every negative, so that a single topk gives a set of fixed size.
    key = torch.where(kept, priority | (1 << 62), torch.where(negative, priority, -1))
    values, index = key.topk(min(size, elements), dim=1)
    return index, values >= 0


def _largest(priority: Tensor, count: int) -> Tensor:
    """(B, A) bool: among the `count` largest of each row that are not negative."""
    values, index = priority.topk(count, dim=1)
    return torch.zeros_like(priority, dtype=torch.bool).scatter(1, index, values >= 0)
