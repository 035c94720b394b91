"""Gradients of joined and pooled maps in the memory format of the maps.

The gradient of `torch.cat` is a slice of the whole for each part. A slice has gaps between its pixels, for which the
backward pass of interpolation, and sums with other gradients, have no fast path: each is an order of magnitude slower,
and gives what follows another memory format. Copying the slice first costs next to nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def dense_gradient(x: Tensor) -> Tensor:
    """`x` (B, C, H, W) itself, through which a gradient passes back as one block of memory, channels last."""
    if not x.requires_grad:
        return x
    x = x.view_as(x)  # a node of its own: only the gradient that comes this way is meant
    x.register_hook(_dense)  # type: ignore[no-untyped-call]
    return x


class DenseGradients(TorchFunctionMode):
    """While it is entered, `dense_gradient` is applied to all that `F.interpolate` gives and global pooling takes.

    The gradient of pooling to one cell is that cell, repeated without memory of its own.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.adaptive_avg_pool2d:
            args = (dense_gradient(args[0]), *args[1:])
        result = func(*args, **(kwargs or {}))
        return dense_gradient(result) if func is F.interpolate else result


def _dense(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)
