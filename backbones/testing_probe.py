"""How the conformance test builds, runs and compares networks."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from backbones.contract import Backbone
from backbones.errors import UserError


@dataclass(frozen=True, slots=True)
class Probe:
    """What is tested, and the size of the images that it is tested with.

    Attributes:
        factory: builds the network.
        size: height and width in pixels.
    """

    factory: Callable[..., Backbone]
    size: tuple[int, int]

    def build(self, seed: int = 0, **options: Any) -> Backbone:
        """The network, always with the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.factory(**options)

    def offered(self, **options: Any) -> Backbone | None:
        """The network with these options, or None where the factory says that it does not offer them."""
        try:
            return self.build(**options)
        except UserError:
            return None

    def takes(self, option: str) -> bool:
        """Whether the factory has this option."""
        return option in inspect.signature(self.factory).parameters

    def refuses(self, **options: Any) -> Iterator[str]:
        """The problem if the factory does not refuse the option by `UserError`."""
        (option, value) = next(iter(options.items()))
        expected = "raise backbones.UserError with the values it takes"
        try:
            self.factory(**options)
        except UserError:
            return
        except Exception as error:
            yield f"{option}={value!r} raises {type(error).__name__}; {expected}"
        else:
            yield f"{option}={value!r} is accepted; {expected}"

    def images(self, net: Backbone, size: tuple[int, int] | None = None) -> Tensor:
        """Two random images, the same ones each time."""
        return torch.randn(2, net.in_channels, *(size or self.size), generator=torch.Generator().manual_seed(0))

    def evaluate(self, net: Backbone, images: Tensor | None = None) -> dict[str, Tensor]:
        """The levels in evaluation mode."""
        net.eval()
        with torch.no_grad():
            levels: dict[str, Tensor] = net(self.images(net) if images is None else images)
        return levels

    def step(self, net: Backbone) -> dict[str, Tensor]:
        """One forward and backward pass in training mode."""
        net.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            levels: dict[str, Tensor] = net(self.images(net))
        generator = torch.Generator().manual_seed(1)
        loss = torch.zeros(())
        for level in levels.values():
            loss = loss + (level * torch.randn(level.shape, generator=generator)).mean()
        if loss.requires_grad:
            torch.autograd.backward(loss)
        return levels


def strides(net: Backbone) -> list[int]:
    """What `features` says."""
    return [spec.stride for spec in net.features.values()]


def different(one: dict[str, Tensor], two: dict[str, Tensor], tolerance: float) -> list[str]:
    """Names whose tensors differ by more than `tolerance` times the largest value."""
    return [
        name
        for name in one
        if name not in two or not (one[name] - two[name]).abs().max() <= tolerance * one[name].abs().max()
    ]


def snapshot(net: nn.Module) -> dict[str, Tensor]:
    """All buffers as they are now."""
    return {name: buffer.clone() for name, buffer in net.named_buffers()}


def changed(net: nn.Module, before: dict[str, Tensor]) -> list[str]:
    """Names of the buffers that are no longer as they were, counters apart."""
    after = {name: buffer for name, buffer in net.named_buffers() if buffer.is_floating_point()}
    return [name for name in after if not torch.equal(after[name], before[name])]
