"""Weights into optimizer groups, and the learning rate of every step."""

import math
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from tasks.config import OptimizerConfig, ScheduleConfig
from tasks.lamb import Lamb
from tasks.model import Model


def parameter_groups(model: Model, config: OptimizerConfig, weights_lr_factor: float = 1.0) -> list[dict[str, Any]]:
    """Trainable weights in groups of one learning rate each, with and without decay.

    The backbone learns at `backbone_lr_factor` times the rate of the heads, and each of its stages at `layer_decay`
    times that of the one after it, the last one included (Howard and Ruder, "ULMFiT", section 3.2). Norm weights and
    every bias, that is every parameter of fewer than two dimensions, are not penalised, and not decayed either unless
    `decay_norms` says so (He et al., "Bag of Tricks for Image Classification", section 3.1).
    Learned weights of losses learn at their own rate.

    Args:
        model: the model.
        config: the section.
        weights_lr_factor: learned weights of losses learn at `lr` times this.
    """
    backbone = dict(model.backbone.named_parameters())
    stages = {name: model.backbone.stage_of(name) for name in backbone}
    last = max(stages.values(), default=0)
    factors = {
        parameter: config.backbone_lr_factor * config.layer_decay ** (last - stages[name] + 1)
        for name, parameter in backbone.items()
    }
    if model.loss_weights is not None:
        factors |= dict.fromkeys(model.loss_weights.parameters(), weights_lr_factor)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((factors.get(parameter, 1.0), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "base_lr": config.lr * factor,
            "weight_decay": config.weight_decay if weights or config.decay_norms else 0.0,
            "l1": config.l1 if weights else 0.0,
        }
        for (factor, weights), parameters in groups.items()
    ]


def build_optimizer(model: Model, config: OptimizerConfig, weights_lr_factor: float = 1.0) -> torch.optim.Optimizer:
    """The optimizer over the trainable weights of `model`; each group carries its `base_lr`."""
    groups = parameter_groups(model, config, weights_lr_factor)
    # One kernel over all weights instead of several passes each; the RMSprop of torch has no such kernel.
    match config.name:
        case "sgd":
            # torch has no such kernel of SGD for shares of weights.
            one_kernel = not any(isinstance(weight, DTensor) for weight in model.parameters())
            sgd = torch.optim.SGD(
                groups, lr=config.lr, momentum=config.momentum, fused=one_kernel, foreach=not one_kernel
            )
            if config.momentum:  # else it fails where weights get their first gradient at different steps
                for weight in (weight for group in groups for weight in group["params"]):
                    sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            return sgd
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=config.lr, betas=config.betas, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=config.lr, momentum=config.momentum, foreach=True)
        case "lamb":
            return Lamb(groups, lr=config.lr, betas=config.betas)


def add_l1_gradient(optimizer: torch.optim.Optimizer) -> None:
    """Add the gradient of `l1 * sum(|w|)` to the gradients of each group, which must be unscaled by now."""
    for group in optimizer.param_groups:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if group["l1"] and weights:
            with torch.no_grad():
                torch._foreach_add_(
                    [weight.grad for weight in weights], torch._foreach_sign(weights), alpha=group["l1"]
                )


def count_steps(steps_per_epoch: int, config: ScheduleConfig) -> int:
    """Optimizer steps of a whole run."""
    return config.steps or config.epochs * steps_per_epoch


def learning_rate_factor(step: int, steps_per_epoch: int, config: ScheduleConfig) -> float:
    """What the learning rate is multiplied by at an optimizer step, counted from 0.

    A pure function, so that a resumed run needs no scheduler state.
    """
    # Both in the unit that the schedule counts in.
    time, end = (step, config.steps) if config.steps else (step / steps_per_epoch, config.epochs)
    match config.policy:
        case "milestones":
            factor = config.gamma ** sum(time >= milestone for milestone in config.milestones)
        case "cosine":
            share = 0.5 * (1 + math.cos(math.pi * time / end))
            factor = config.final_lr_factor + (1 - config.final_lr_factor) * share
        case "polynomial":
            factor = config.final_lr_factor + (1 - config.final_lr_factor) * (1 - time / end) ** config.power
        case "constant":
            factor = 1.0
    if step < config.warmup_steps:
        factor *= config.warmup_factor or (step + 1) / config.warmup_steps
    return factor


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to `base_lr * factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
