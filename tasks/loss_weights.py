"""How the losses of several heads are weighed against each other: by given factors, or by learned ones."""

import math
from collections.abc import Collection, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from backbones.errors import UserError
from heads.contract import Reads, Targets
from heads.normaliser import mean_count
from tasks.config import LossesConfig


class LossWeights(nn.Module):
    """A factor on all losses of each head.

    Learned factors follow Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
    Geometry and Semantics" (arXiv:1705.07115, section 3.2, equations 7 and 10): a head with the log variance s has its
    losses multiplied by exp(-s), and s / 2 is added, without which all factors would fall to zero. The s are what is
    learned, and they are saved with the model's weights. The factor 1/2 that equation 7 has for regressed numbers alone
    only shifts their s by a constant, and is left out. The sum of all losses may be negative then.

    Args:
        factors: above zero where they are learned; by the name of the head.
        learned: learn them, beginning with these.
    """

    def __init__(self, factors: Mapping[str, float], learned: bool) -> None:
        super().__init__()
        self.factors = dict(factors)
        self.log_variances: nn.ParameterDict | None = None
        if learned:
            start = {name: torch.tensor(-math.log(factor)) for name, factor in factors.items()}
            self.log_variances = nn.ParameterDict(start)

    @classmethod
    def of(cls, config: LossesConfig, heads: Collection[str], learning: Collection[str]) -> Self | None:
        """Those of a config; None where every factor is 1 and stays so.

        Args:
            config: the section.
            heads: all heads of the experiment.
            learning: those that learn.

        Raises:
            UserError: there is no such head, or a factor cannot be learned.
        """
        for name, factor in config.weights.items():
            if name not in heads:
                raise UserError(f"losses.weights names {name!r}; expected heads among {', '.join(heads)}")
            if config.learned and factor == 0:
                raise UserError(
                    f"losses.weights.{name} is 0, where learned factors cannot begin; expected a number above 0, or "
                    "losses.learned False"
                )
        factors = {name: config.weights.get(name, 1.0) for name in heads if name in learning}
        if not config.learned and set(factors.values()) <= {1.0}:
            return None
        return cls(factors, config.learned)

    def forward(self, head: str, losses: Mapping[str, Tensor], annotated: Tensor) -> dict[str, Tensor]:
        """The losses of `head`, weighted; with learned factors also "uncertainty", which is s / 2.

        That is left out of a batch in which no image is annotated for the head: there is nothing to be uncertain about.

        Args:
            head: its name.
            losses: () by name.
            annotated: (), float32, how many images of the batch are annotated for it.
        """
        if self.log_variances is None:
            return {name: self.factors[head] * loss for name, loss in losses.items()}
        log_variance = self.log_variances[head]
        # Averaged over processes this is 1 where any of them has such an image, else 0.
        share = annotated / mean_count(annotated)
        weighted = {name: torch.exp(-log_variance) * loss for name, loss in losses.items()}
        return {**weighted, "uncertainty": share * log_variance / 2}

    def current(self) -> dict[str, float]:
        """The factors as they are now; waits for the device where they are learned."""
        if self.log_variances is None:
            return dict(self.factors)
        values = torch.exp(-torch.stack(list(self.log_variances.values()))).tolist()
        return dict(zip(self.log_variances.keys(), values, strict=True))


def annotated(targets: Targets, reads: Reads) -> Tensor:
    """() float32, how many of a batch's images have targets of a kind; a part that is None is of none."""
    part = getattr(targets, reads)
    return targets.seeds.new_zeros((), dtype=torch.float32) if part is None else part.annotated.sum().float()
