"""Folding against the layers applied one after the other."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from backbones import UserError
from backbones.norm import FrozenBatchNorm, conv_norm, make_norm


def draw(*shape: int, low: float = -1.0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) * (1 - low) + low


def batch_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(8)
    norm.load_state_dict(
        {
            "weight": draw(8),
            "bias": draw(8) * 2,
            "running_mean": draw(8) * 3,
            "running_var": draw(8, low=0.1),
            "num_batches_tracked": torch.tensor(7),
        }
    )
    return norm


def test_frozen_norm_takes_batch_norm_files_and_equals_torchvisions() -> None:
    ours, theirs, source = FrozenBatchNorm(8), FrozenBatchNorm2d(8), batch_norm()
    ours.load_state_dict(source.state_dict())
    theirs.load_state_dict(source.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.eps == theirs.eps
    assert not list(ours.parameters())
    x = draw(2, 8, 5, 4)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)
    torch.testing.assert_close(ours(x), source.eval()(x))
    assert ours(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
def test_batch_norm_outside_training_folds_exactly_with_its_gradients(bias: bool, groups: int) -> None:
    torch.manual_seed(0)
    conv, norm, x = nn.Conv2d(4, 8, 3, 2, 1, groups=groups, bias=bias), batch_norm().eval(), draw(2, 4, 9, 8)
    leaves = [*conv.parameters(), *norm.parameters()]
    ours, theirs = conv_norm(conv, norm, x), norm(conv(x))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad((y * draw(*y.shape)).sum(), leaves) for y in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_training_batch_norm_is_not_folded() -> None:
    conv, x = nn.Conv2d(4, 8, 3), draw(2, 4, 9, 8)
    ours, theirs = batch_norm(), batch_norm()
    torch.testing.assert_close(conv_norm(conv, ours, x), theirs(conv(x)), rtol=0, atol=0)
    assert torch.equal(ours.running_mean, theirs.running_mean)
    assert not torch.equal(ours.running_mean, batch_norm().running_mean)


def test_a_norm_that_returns_float32_does_not_widen_what_follows() -> None:
    class Widening(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float()

    conv = nn.Conv2d(4, 8, 3).bfloat16()
    assert conv_norm(conv, Widening(), draw(2, 4, 9, 8).bfloat16()).dtype == torch.bfloat16


def test_group_norm_has_32_groups() -> None:
    norm = make_norm("gn", 64)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == 32


def test_unknown_norm_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'layer' is not known; choose one of bn, frozen_bn, sync_bn, gn"):
        make_norm("layer", 8)  # type: ignore[arg-type]


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (16, 8), (32, 16), (48, 16), (64, 32), (96, 32), (2048, 32)])
def test_group_norm_has_fewer_groups_of_few_channels(channels: int, groups: int) -> None:
    assert make_norm("gn", channels).num_groups == groups
