"""A few steps of training on one batch, as the runner takes them."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from torch import Tensor

from backbones.errors import UserError
from tasks.checking.network import Network
from tasks.config import OptimizerConfig, ScheduleConfig
from tasks.data.sample import Batch
from tasks.model import Model
from tasks.stepper import Stepper


@dataclass(frozen=True, slots=True)
class Course:
    """How training on one batch went.

    Attributes:
        losses: sum of all losses before each step; infinite where it was no number, after which there are no more.
        step_size: of the first step at the full rate: the norm of the change of the weights over their own, at the
            median of all layers; 0 if it was not taken.
    """

    losses: Sequence[float]
    step_size: float

    @property
    def end(self) -> float:
        """The loss at the end, as the mean of the last three steps."""
        last = self.losses[-3:]
        return sum(last) / len(last)

    @property
    def fall(self) -> float:
        """Share of the first loss that is gone at the end; below 0 if it has grown."""
        return 1 - self.end / self.losses[0] if self.losses[0] else 0.0


def train_on(
    network: Network, batch: Batch, optimizer: OptimizerConfig, steps: int, warmup_steps: int, seconds: float
) -> tuple[Course, Model]:
    """Train a copy of a network on one batch over and over.

    Args:
        network: with its initial weights.
        batch: on any device.
        optimizer: in place of the config's.
        steps: to take at most.
        warmup_steps: over which the rate rises.
        seconds: after which no further step begins; three are taken in any case.
    """
    config = network.config.model_copy(deep=True)
    config.optimizer = optimizer
    config.schedule = ScheduleConfig(policy="constant", epochs=10**6, warmup_steps=warmup_steps)
    config.runner.ema_decay = None
    model = copy.deepcopy(network.model)
    stepper = Stepper(config, model, network.accelerator, steps_per_epoch=1)
    losses: list[float] = []
    step_size, start = 0.0, time.monotonic()
    for step in range(steps):
        if step >= 3 and time.monotonic() - start > seconds:
            break
        before = _weights(model) if step == warmup_steps else {}
        try:
            stepper.take([batch])
        except UserError:  # a loss that is not finite
            losses.append(float("inf"))
            break
        losses.append(sum(stepper.watch.means().values()))
        if before:
            step_size = _change(before, model)
    network.accelerator.free_memory()
    return Course(losses, step_size), model


def _weights(model: Model) -> dict[str, Tensor]:
    """Copies of what trains, without biases and the like."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.ndim > 1
    }


def _change(before: Mapping[str, Tensor], model: Model) -> float:
    """Relative change of the weights at the median layer; of those alone that were not zero."""
    changes = [
        float((parameter.detach() - before[name]).norm() / before[name].norm())
        for name, parameter in model.named_parameters()
        if name in before and bool(before[name].any())
    ]
    return median(changes) if changes else 0.0
