"""LAMB, the optimizer of large batches (You et al., arXiv:1904.00962, algorithm 2)."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """Adam whose step of each weight tensor is made as long as the tensor itself, times the learning rate.

    Groups without weight decay take Adam's step as it is, as in NVIDIA's and timm's versions. Those also clip the norm
    of all gradients to 1 of themselves; here that is said by `optimizer.clip_grad_norm`, as for every optimizer.

    A weight's state is three tensors, so that a checkpoint holds all of it: `step`, `exp_avg` and `exp_avg_sq`. Nothing
    waits for the device.

    Args:
        groups: parameters, each group with its `weight_decay`.
        lr: learning rate.
        betas: decays of the means of the gradient and of its square.
        eps: added to the root of the mean square.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._move(weights, **{key: group[key] for key in ("lr", "betas", "eps", "weight_decay")})
        return loss

    def _move(
        self, weights: list[Tensor], lr: float, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] = {
                    "step": torch.zeros((), device=weight.device),
                    "exp_avg": torch.zeros_like(weight),
                    "exp_avg_sq": torch.zeros_like(weight),
                }
        steps, means, squares = (
            [self.state[weight][slot] for weight in weights] for slot in ("step", "exp_avg", "exp_avg_sq")
        )
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(means, gradients, 1 - betas[0])
        torch._foreach_mul_(squares, betas[1])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - betas[1])
        scale = torch._foreach_sqrt(squares)
        torch._foreach_div_(scale, torch._foreach_sqrt(_share_seen(steps, betas[1])))
        torch._foreach_add_(scale, eps)
        updates = list(torch._foreach_div(means, scale))
        torch._foreach_div_(updates, _share_seen(steps, betas[0]))
        if weight_decay:
            torch._foreach_add_(updates, weights, alpha=weight_decay)
            lengths = zip(torch._foreach_norm(weights), torch._foreach_norm(updates), strict=True)
            torch._foreach_mul_(
                updates, [torch.where((own > 0) & (step > 0), own / step, 1.0) for own, step in lengths]
            )
        torch._foreach_add_(weights, updates, alpha=-lr)


def _share_seen(steps: list[Tensor], beta: float) -> list[Tensor]:
    """1 - beta ** step, what the running mean has of a full one; precise where the power is close to 1."""
    if not beta:
        return [torch.ones_like(step) for step in steps]
    powers = torch._foreach_mul(steps, math.log(beta))
    return [-share for share in torch._foreach_expm1(powers)]
