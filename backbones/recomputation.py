"""Batch norms inside of parts whose activations are computed again in the backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Kept = tuple[float | None, Tensor | None]


@contextmanager
def statistics_untouched(block: nn.Module) -> Iterator[None]:
    """Keep the batch norms of `block` from counting the same batch a second time while it is computed again."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    kept = [_hold(norm) for norm in norms]
    try:
        yield
    finally:
        for norm, state in zip(norms, kept, strict=True):
            _release(norm, state)


class count_batches_once:
    """Keep the batch norms of `network` from counting a batch again outside of its forward pass.

    For checkpoints that somebody else sets, such as timm's; whatever runs outside of the forward pass of `network` is
    their recomputation.
    """

    def __init__(self, network: nn.Module) -> None:
        self._inside = False
        self._kept: dict[nn.Module, Kept] = {}
        network.register_forward_pre_hook(self._enter)
        network.register_forward_hook(self._leave, always_call=True)
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.register_forward_pre_hook(self._before)
                # Called even where a recomputation ends in the middle of the norm, all it was for being there.
                module.register_forward_hook(self._behind, always_call=True)

    def _enter(self, module: nn.Module, inputs: object) -> None:
        self._inside = True

    def _leave(self, module: nn.Module, inputs: object, output: object) -> None:
        self._inside = False

    def _before(self, norm: Any, inputs: object) -> None:
        if not self._inside:
            self._kept[norm] = _hold(norm)

    def _behind(self, norm: Any, inputs: object, output: object) -> None:
        if norm in self._kept:
            _release(norm, self._kept.pop(norm))


def _hold(norm: _BatchNorm) -> Kept:
    """Let what `norm` computes next leave its statistics as they are."""
    kept = norm.momentum, norm.num_batches_tracked
    norm.momentum = 0.0
    if norm.num_batches_tracked is not None:  # SyncBatchNorm insists on one
        norm.num_batches_tracked = norm.num_batches_tracked.clone()
    return kept


def _release(norm: _BatchNorm, kept: Kept) -> None:
    norm.momentum, norm.num_batches_tracked = kept
