"""The state of an optimizer as named tensors, to be saved and restored."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tasks.sharding import share_of


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """The optimizer's state, keyed `"<parameter>/<slot>"`."""
    return {
        f"{names[parameter]}/{slot}": value
        for parameter, slots in optimizer.state.items()
        for slot, value in slots.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of `optimizer_tensors`; slots take the memory layout of their parameter."""
    parameters = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        name, slot = key.rsplit("/", 1)
        parameter = parameters[name]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(share_of(value, parameter))
        else:  # Adam's count of steps, a scalar, stays where the optimizer keeps it.
            value = value.to(parameter.device)
        optimizer.state[parameter][slot] = value
