"""The divisor that makes a summed loss a mean over the samples of all processes."""

import torch
from torch import Tensor, distributed

# Losses by name: the sum over the samples of this process, and how many there are; all (), float32.
LossSums = dict[str, tuple[Tensor, Tensor]]


def mean_losses(sums: LossSums) -> dict[str, Tensor]:
    """Each sum divided by its `mean_count`; every process must have the same losses."""
    counts = mean_count(torch.stack([count for _, count in sums.values()]))
    return {name: total / count for (name, (total, _)), count in zip(sums.items(), counts.unbind(), strict=True)}


def mean_count(counts: Tensor) -> Tensor:
    """Samples a process has on average, so that gradients averaged over processes equal those of one large batch.

    Every process must call it the same number of times. Stays on the device.

    Args:
        counts: (...) float32, samples of this process.

    Returns:
        (...) float32, never zero.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return counts.clamp(min=1)
    total = counts.clone()
    distributed.all_reduce(total)
    # Clamp the total, not the mean: one sample among many processes is a mean below 1, and rightly so.
    return total.clamp(min=1) / distributed.get_world_size()
