"""Batch norms inside of parts whose activations are computed again in the backward pass."""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class count_batches_once:
    """Keep the batch norms of `network` from counting a batch again outside of its forward pass.

    For checkpoints that somebody else sets, such as timm's; whatever runs outside of the forward pass of `network` is
    their recomputation.
    """

    def __init__(self, network: nn.Module) -> None:
        self._inside = False
        self._kept: dict[nn.Module, tuple[float | None, torch.Tensor | None]] = {}
        network.register_forward_pre_hook(self._enter)
        network.register_forward_hook(self._leave, always_call=True)
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.register_forward_pre_hook(self._hold)
                # Called even where a recomputation ends in the middle of the norm, all it was for being there.
                module.register_forward_hook(self._release, always_call=True)

    def _enter(self, module: nn.Module, inputs: object) -> None:
        self._inside = True

    def _leave(self, module: nn.Module, inputs: object, output: object) -> None:
        self._inside = False

    def _hold(self, norm: Any, inputs: object) -> None:
        if not self._inside:
            self._kept[norm] = norm.momentum, norm.num_batches_tracked
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def _release(self, norm: Any, inputs: object, output: object) -> None:
        if norm in self._kept:
            norm.momentum, norm.num_batches_tracked = self._kept.pop(norm)
