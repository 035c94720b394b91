"""An exponential moving average of the weights (Polyak and Juditsky 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tasks.sharding import own_shares


class MovingAverage:
    """Follows a model: `average = decay * average + (1 - decay) * weights`; other state, such as counts, is copied.

    Args:
        model: the model to follow; the average starts as a copy of it.
        decay: 0 .. 1. Early on it is lowered to (1 + steps) / (10 + steps), so that a short run is not dominated by
            its random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after optimizer step `step`, counted from 0."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        averages: list[Tensor] = []
        currents: list[Tensor] = []
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                averages.append(self.tensors[name])
                currents.append(tensor)
            else:
                self.tensors[name].copy_(tensor)
        torch._foreach_lerp_(own_shares(averages), own_shares(currents), weight)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model holds the average within, and its own weights again after."""
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)
