"""What a network makes of images of some size, found out on shapes alone, without arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class TriedMap:
    """A tensor that a network returned.

    Attributes:
        shape: of it.
        parameters: names of those that it was computed from.
    """

    shape: tuple[int, ...]
    parameters: frozenset[str]


def try_shapes(network: nn.Module, shape: tuple[int, ...]) -> list[TriedMap]:
    """What `network`, which returns a list of tensors, makes of images of `shape` in evaluation mode.

    Raises whatever the network does.
    """
    parameters = {name: nn.Parameter(x.to("meta")) for name, x in network.named_parameters()}
    buffers = {name: x.to("meta") for name, x in network.named_buffers()}
    names = {id(parameter): name for name, parameter in parameters.items()}
    network.eval()
    with torch.enable_grad():
        images = (torch.empty(shape, device="meta"),)
        maps = cast(Sequence[Tensor], torch.func.functional_call(network, {**parameters, **buffers}, images))
    leaves = [(tuple(x.shape), _leaves_behind(x)) for x in maps]
    return [TriedMap(shape, frozenset(names[id(leaf)] for leaf in of if id(leaf) in names)) for shape, of in leaves]


def _leaves_behind(tensor: Tensor) -> list[Tensor]:
    """What gradients of `tensor` would reach."""
    found: list[Tensor] = []
    seen, open_nodes = set(), [tensor.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found.append(leaf)
        open_nodes += [following for following, _ in node.next_functions]
    return found
