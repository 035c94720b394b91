import pytest
import torch
import torchvision
from torch import Tensor

from heads.pooling import MaskedPooling, PoolingKind

KINDS: list[PoolingKind] = ["average", "max", "gem"]


def sizes(*pairs: tuple[int, int]) -> Tensor:
    return torch.tensor(pairs)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_average_is_torchvisions_to_the_last_bit(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    level = torch.randn(3, 20, 7, 5).contiguous(memory_format=memory_format)
    reference = torchvision.models.resnet18().avgpool(level).flatten(1)
    # 219 pixels of 224 reach into the seventh cell as well.
    ours = MaskedPooling("average", 32)(level, sizes((224, 160), (219, 160), (193, 129)))
    assert torch.equal(ours, reference)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_matter(kind: PoolingKind) -> None:
    torch.manual_seed(0)
    pool = MaskedPooling(kind, 16)
    alone = [torch.rand(1, 6, 2, 3), torch.rand(1, 6, 4, 1)]
    level = torch.full((2, 6, 4, 3), 1000.0)
    level[0, :, :2], level[1, :, :, :1] = alone[0][0], alone[1][0]
    together = pool(level, sizes((20, 48), (49, 16)))
    expected = torch.cat([pool(alone[0], sizes((20, 48))), pool(alone[1], sizes((49, 16)))])
    torch.testing.assert_close(together, expected)
    assert together.max() < 1.01


@pytest.mark.parametrize("kind", KINDS)
def test_padding_gets_no_gradient(kind: PoolingKind) -> None:
    level = torch.rand(1, 2, 3, 3, requires_grad=True)
    MaskedPooling(kind, 8)(level, sizes((16, 24))).sum().backward()
    assert level.grad is not None
    assert not level.grad[:, :, 2].any()
    assert level.grad.isfinite().all()
    assert level.grad[:, :, :2].any()


def test_gem_lies_between_average_and_max() -> None:
    torch.manual_seed(0)
    level, valid = torch.rand(4, 8, 5, 5), sizes(*[(40, 40)] * 4)
    pool = MaskedPooling("gem", 8)
    assert pool.power.tolist() == [3.0]
    expected = torch.nn.functional.lp_pool2d(level, 3.0, 5).flatten(1) / 25 ** (1 / 3)
    torch.testing.assert_close(pool(level, valid), expected)
    with torch.no_grad():
        pool.power.fill_(1.0)
    torch.testing.assert_close(pool(level, valid), level.mean(dim=(2, 3)))
    with torch.no_grad():
        pool.power.fill_(200.0)
    torch.testing.assert_close(pool(level, valid), level.amax(dim=(2, 3)), rtol=0.02, atol=0)


def test_gem_learns_its_power_where_features_are_zero() -> None:
    level = torch.rand(2, 3, 4, 4).sub(0.5).relu().requires_grad_()
    pool = MaskedPooling("gem", 8)
    pool(level, sizes((32, 32), (32, 32))).sum().backward()
    assert pool.power.grad is not None
    assert pool.power.grad.isfinite().all()
    assert pool.power.grad.any()
    assert level.grad is not None
    assert level.grad.isfinite().all()


def test_float32_from_bfloat16() -> None:
    level = torch.full((1, 1, 64, 64), 1 + 2**-7, dtype=torch.bfloat16)
    assert MaskedPooling("average", 4)(level, sizes((256, 256))).item() == 1 + 2**-7
