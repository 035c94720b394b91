"""Normalisation layers by name, and a convolution that absorbs the ones that are a fixed affine map."""

import math
from typing import Any, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import UserError

Norm: TypeAlias = Literal["bn", "frozen_bn", "sync_bn", "gn"]


class FrozenBatchNorm(nn.Module):
    """BatchNorm whose statistics and affine never change, in training either.

    Its state-dict keys are BatchNorm's, so that a BatchNorm file fits; all four are buffers, so that neither an
    optimizer nor `requires_grad_` touches them. Behind a convolution, call `conv_norm`: it costs nothing there.

    Args:
        channels: C of the (B, C, H, W) it takes.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps = 1e-5
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and type."""
        scale, shift = _affine(self)
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """The layer called `kind` for `channels` channels.

    `bn` BatchNorm; `frozen_bn` its fixed form, for fine-tuning with few images a batch; `sync_bn` BatchNorm over the
    batches of all processes (torch has it for accelerators only: several processes on CPUs cannot train with it);
    `gn` GroupNorm of 32 groups (Wu and He, arXiv:1803.08494), of fewer where they would be of a single channel or of
    unequal sizes.

    Raises:
        UserError: no such kind.
    """
    if kind == "bn":
        return nn.BatchNorm2d(channels)
    if kind == "frozen_bn":
        return FrozenBatchNorm(channels)
    if kind == "sync_bn":
        return nn.SyncBatchNorm(channels)
    if kind == "gn":
        groups = math.gcd(32, channels)
        return nn.GroupNorm(groups if groups < channels else max(1, channels // 2), channels)
    raise UserError(f"norm {kind!r} is not known; choose one of {', '.join(get_args(Norm))}")


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """`norm(conv(x))`, in one convolution where the norm only scales and shifts.

    That holds for `FrozenBatchNorm` always and for BatchNorm outside training. The scale goes into the weights and
    the shift into the bias, so the norm adds no pass over the activations and keeps none of them for the backward
    pass, and the result has the convolution's type, bf16 under bf16 autocast. Gradients reach the weights, and the
    norm's own where they train, through the product.
    """
    if isinstance(norm, FrozenBatchNorm) or (isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm) and not norm.training):
        scale, shift = _affine(norm)
        weight = conv.weight * scale[:, None, None, None]
        bias = shift if conv.bias is None else conv.bias * scale + shift
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    y: Tensor = conv(x)
    z: Tensor = norm(y)
    return z.to(y.dtype)  # CUDA's autocast runs GroupNorm in float32 and would leave all that follows in it


def norm_relu(norm: nn.Module, x: Tensor) -> Tensor:
    """The norm and a ReLU, in the type of `x`, where no convolution precedes the norm."""
    return F.relu(norm(x).to(x.dtype), inplace=True)


def _affine(norm: "FrozenBatchNorm | nn.BatchNorm2d | nn.SyncBatchNorm") -> tuple[Tensor, Tensor]:
    """Scale and shift, each (C,), that the norm's stored statistics and affine amount to."""
    assert norm.running_mean is not None  # as always in layers that `make_norm` makes
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale
