"""What networks of a stem and stages of blocks share: parts that do not train, and recomputed activations."""

from abc import abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.contract import Backbone
from backbones.convolution import Init, initialise
from backbones.errors import UserError
from backbones.recomputation import statistics_untouched


class StagedBackbone(Backbone):
    """A stem, then stages of blocks. A subclass builds them, then calls `_complete`.

    Args:
        in_channels: channels of the images.
        frozen_stages: how many parts do not train, their norms kept in eval mode: 1 is the stem, 2 the stem and the
            first stage, and so on.
        activation_checkpointing: keep only the blocks' inputs for the backward pass and compute the rest again
            there; the same gradients from less memory and a third more arithmetic.

    Raises:
        UserError: an option is out of its range.
    """

    def __init__(self, in_channels: int, frozen_stages: int, activation_checkpointing: bool) -> None:
        super().__init__()
        if in_channels < 1:
            raise UserError(f"{type(self).__name__}: in_channels is {in_channels}; images have at least 1 channel")
        self.in_channels = in_channels
        self.frozen_stages = frozen_stages
        self.activation_checkpointing = activation_checkpointing

    @abstractmethod
    def parts(self) -> list[list[nn.Module]]:
        """The modules of the stem, then those of each stage: all that have parameters, each in one part."""

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but the frozen parts stay in eval mode."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def stage_of(self, parameter: str) -> int:
        path = parameter.split(".")
        owners = {self.get_submodule(".".join(path[:length])) for length in range(1, len(path))}
        for depth, part in enumerate(self.parts()):
            if not owners.isdisjoint(part):
                return depth
        raise KeyError(parameter)

    def _complete(self, init: Init) -> None:
        """Once all is built: initialise, freeze, and enter training mode."""
        count = len(self.parts())
        if self.frozen_stages not in range(count + 1):
            raise UserError(
                f"{type(self).__name__}: frozen_stages is {self.frozen_stages}; give 0 (none) to {count} (all)"
            )
        initialise(self, init)
        for module in self._frozen():
            module.requires_grad_(False)
        self.train()

    def _require_output_stride(self, output_stride: int) -> None:
        if output_stride not in (8, 16, 32):
            raise UserError(f"{type(self).__name__}: output_stride is {output_stride}; give 8, 16 or 32")

    def _require_drop_rate(self, drop_rate: float) -> None:
        if not 0 <= drop_rate < 1:
            raise UserError(f"{type(self).__name__}: drop_rate is {drop_rate}; give 0 (none) or more, below 1")

    def _layers(self) -> list[nn.Sequential]:
        """The stages, of a network that calls them `layer1`, `layer2` and so on."""
        return [cast(nn.Sequential, module) for name, module in self.named_children() if name.startswith("layer")]

    def _parts_of_layers(self, *stem: nn.Module) -> list[list[nn.Module]]:
        """`parts` of such a network."""
        stages: list[list[nn.Module]] = [[stage] for stage in self._layers()]
        return [[*stem], *stages]

    def _frozen(self) -> list[nn.Module]:
        return [module for part in self.parts()[: self.frozen_stages] for module in part]

    def _through(self, blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
        """`x` through blocks of one tensor each, kept or recomputed."""
        for block in blocks:
            x = self._run(block, x)
        return x

    def _run(self, block: nn.Module, *x: Tensor) -> Tensor:
        """What `block` makes of `x`, its activations kept or recomputed."""
        if not (self.activation_checkpointing and torch.is_grad_enabled()):
            return cast(Tensor, block(*x))
        if torch.compiler.is_compiling():  # takes no contexts, and updates buffers in the forward pass alone by itself
            return cast(Tensor, checkpoint(block, *x, use_reentrant=False))
        return cast(Tensor, checkpoint(block, *x, use_reentrant=False, context_fn=partial(_checkpoint_contexts, block)))


def _checkpoint_contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a block's forward pass and of its recomputation."""
    return nullcontext(), statistics_untouched(block)
