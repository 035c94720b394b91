"""Residual branches that are left out at random while training."""

import torch
from torch import Tensor, nn

from backbones.errors import UserError


class DropPath(nn.Module):
    """Leaves a branch out for some images of a batch (Huang et al., Stochastic Depth, arXiv:1603.09382, section 3).

    What stays is scaled up by the share that stays, so evaluation needs no correction. Drawn from torch's generator.

    Args:
        rate: probability of leaving the branch out, at least 0 and less than 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, zero for the images that are left out."""
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) >= self.rate
        return branch * (kept / (1 - self.rate)).to(branch.dtype)

    def extra_repr(self) -> str:
        return f"{self.rate}"


def drop_rates(highest: float, blocks: int, network: str) -> list[float]:
    """Of each block, the rate that rises linearly with depth from 0 to `highest` (section 3, "linear decay").

    Raises:
        UserError: `highest` is no such rate.
    """
    if not 0 <= highest < 1:
        raise UserError(f"{network}: drop_path is {highest}; give 0 or more and less than 1")
    return [highest * index / max(1, blocks - 1) for index in range(blocks)]
