"""What networks of a stem and stages share: what is kept for the backward pass, and what is counted there."""

import pytest
import torch
from torch import Tensor, nn

from backbones import build_backbone


def images() -> Tensor:
    return torch.randn(2, 3, 65, 50, generator=torch.Generator().manual_seed(1))


def saved_bytes(net: nn.Module) -> int:
    """Bytes of activations that a forward pass keeps for the backward pass."""
    own = {tensor.untyped_storage().data_ptr() for tensor in net.state_dict().values()}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Weights folded with their norm are as large as the weights, not as the images: they have other shapes.
        if tensor.untyped_storage().data_ptr() not in own and tensor.ndim == 4 and tensor.shape[0] == 2:
            saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        levels = net(images())
        del levels
    return sum(saved.values())


def test_frozen_stages_keep_nothing_for_the_backward_pass() -> None:
    bytes_by_stage = [saved_bytes(build_backbone("resnet18", frozen_stages=stages)) for stages in range(6)]
    assert bytes_by_stage == sorted(bytes_by_stage, reverse=True)
    assert bytes_by_stage[5] == 0


def test_folded_norm_keeps_no_activations() -> None:
    frozen, trained = (saved_bytes(build_backbone("resnet18", norm=norm)) for norm in ("frozen_bn", "bn"))
    assert frozen < 0.7 * trained


def test_checkpointing_keeps_less() -> None:
    full, less = (saved_bytes(build_backbone("resnet50", activation_checkpointing=on)) for on in (False, True))
    assert less < 0.4 * full


@pytest.mark.parametrize("norm", ["bn", "sync_bn"])
def test_checkpointing_counts_a_batch_once(norm: str) -> None:
    nets = [build_backbone("resnet18", norm=norm, activation_checkpointing=on) for on in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        sum(level.mean() for level in net(images()).values()).backward()
    for name, buffer in nets[0].named_buffers():
        torch.testing.assert_close(nets[1].get_buffer(name), buffer, rtol=1e-5, atol=1e-6)


def test_checkpointing_compiled_counts_a_batch_once() -> None:
    plain, other = (build_backbone("resnet18", activation_checkpointing=on) for on in (False, True))
    other.load_state_dict(plain.state_dict())
    torch.compiler.reset()
    for net in (plain, torch.compile(other, backend="aot_eager")):
        sum(level.mean() for level in net(images()).values()).backward()
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(other.get_buffer(name), buffer, rtol=1e-4, atol=1e-5)
