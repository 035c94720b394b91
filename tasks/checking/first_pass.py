"""A forward and a backward pass of training without a step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from accelerate.accelerator import Accelerator

from tasks.data.sample import Batch
from tasks.model import Model


@dataclass(frozen=True, slots=True)
class FirstPass:
    """What the first pass gave.

    Attributes:
        losses: by name.
        unreached: trainable parameters without a gradient.
        zero: those whose gradient is zero.
        problem: why there are no losses; empty if there are.
    """

    losses: Mapping[str, float]
    unreached: tuple[str, ...] = ()
    zero: frozenset[str] = frozenset()
    problem: str = ""


def first_pass(accelerator: Accelerator, model: Model, batch: Batch) -> FirstPass:
    """Losses and gradients of a batch in training mode; the model is left as it was, but for its running statistics."""
    model.train()
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    try:
        with accelerator.autocast():
            losses = model(batch.to(accelerator.device))
    except Exception as error:  # of a plug-in, as a rule
        return FirstPass({}, problem=f"{type(error).__name__}: {error}")
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    if not all(map(math.isfinite, values.values())):
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        return FirstPass(values, problem=f"{', '.join(broken)} is not finite")
    total = torch.stack([loss.float() for loss in losses.values()]).sum()
    if not total.requires_grad:
        return FirstPass(values, unreached=names)
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return FirstPass(
        values,
        tuple(name for name, gradient in zip(names, gradients, strict=True) if gradient is None),
        frozenset(n for n, g in zip(names, gradients, strict=True) if g is not None and not bool(g.any())),
    )
