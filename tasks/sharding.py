"""Weights divided among processes, for models that do not fit: each keeps its share of every weight, of its gradient,
of the optimizer's state and of the moving average.

Fully sharded data parallelism (Zhao et al., "PyTorch FSDP", arXiv:2304.11277, section 3; ZeRO stage 3 of Rajbhandari et
al., arXiv:1910.02054, section 5). Those of the backbone are gathered for its passes, block by block where it names its
blocks, and given up after each; those of the heads are whole from the forward pass to the end of the backward pass,
which begins with them. Between steps, what looks like a weight is a `DTensor`, a share that knows of what.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tasks.model import Model


def shard_model(model: Model, device: torch.device) -> None:
    """Keep a share of each weight in this process; every process of the default group has to come here.

    Args:
        model: with the same weights in all processes. It may lie in the memory of the host: its parts move to the
            device one by one, as shares.
        device: that trains.
    """
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for weight in model.parameters():
        weight.data = weight.data.contiguous()  # shares are rows of row-major weights
    # Heads use weights outside of the layers that hold them, so theirs are gathered with the model's own.
    for part in (*model.backbone.blocks(), model.backbone, model):
        fully_shard(part, mesh=mesh)


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, those that are shares as a whole, in the memory of the host; called by all processes alike.

    The main process alone saves them: the others help to gather shares and keep none.
    """
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, DTensor):
            whole[name] = tensor
            continue
        full = tensor.full_tensor()
        if distributed.get_rank() == 0:
            whole[name] = full.cpu()
    return whole


def share_of(whole: Tensor, like: Tensor) -> Tensor:
    """A tensor on the device of `like`, divided as it is; `whole` is the same in all processes."""
    if not isinstance(like, DTensor):
        return whole.to(like.device)
    # Every process has read the whole, so none has to send it.
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def own_shares(tensors: Iterable[Tensor]) -> list[Tensor]:
    """What this process holds of each tensor: views of its share, or the tensor itself."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Euclidean norm, a scalar, of all tensors together as a whole; called by all processes alike."""
    norm = nn.utils.get_total_norm(tensors)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


@contextmanager
def held_whole(model: nn.Module) -> Iterator[None]:
    """Within it, each process holds all weights, to predict as many images as it likes; nothing is trained there."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()
