from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from heads.roi_align import Pooling, assign_levels, gather_roi_align, reference_roi_align, roi_align

HEIGHT, WIDTH = 192, 256
STRIDES = [4, 8, 16, 32]


def pyramid(channels: int = 6, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, channels, HEIGHT // s, WIDTH // s, generator=generator) for s in STRIDES]
    return [m.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_() for m in maps]


def varied_boxes() -> Tensor:
    """Of all levels; whole, cut by the border, outside, tiny, empty, and larger than the image."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(80, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT]) - 20
    sides = torch.exp(torch.rand(80, 2, generator=generator) * 6)
    special = torch.tensor(
        [
            [-50.0, -50, 20, 20],
            [WIDTH - 10, HEIGHT - 10, WIDTH + 60, HEIGHT + 60],
            [-300, -300, -200, -200],
            [WIDTH + 100, 10, WIDTH + 200, 50],
            [10, 10, 10.01, 10.01],
            [30, 30, 30, 30],
            [0, 0, WIDTH, HEIGHT],
            [-500, -500, 900, 900],
            [10, 10, 234, 234],
        ]
    )
    return torch.cat((torch.cat((corner, corner + sides), dim=1), special))


def split(boxes: Tensor, image_index: Tensor) -> list[Tensor]:
    return [boxes[image_index == image] for image in range(2)]


def test_levels_equal_torchvision() -> None:
    boxes = varied_boxes()
    boxes = boxes[(boxes[:, 2:] >= boxes[:, :2]).all(dim=1)]
    assert torch.equal(assign_levels(boxes, STRIDES), LevelMapper(2, 5)([boxes]))
    assert set(assign_levels(boxes, STRIDES).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("size", [7, 14])
@pytest.mark.parametrize("ratio", [1, 2, 3])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_equals_multi_scale_roi_align(size: int, ratio: int, memory_format: torch.memory_format) -> None:
    levels = [level.detach().contiguous(memory_format=memory_format).requires_grad_() for level in pyramid()]
    boxes = varied_boxes()
    image_index = torch.arange(len(boxes)) % 2
    order = torch.argsort(image_index, stable=True)
    reference = MultiScaleRoIAlign(["0", "1", "2", "3"], size, ratio)
    named = {str(number): level for number, level in enumerate(levels)}
    expected = reference(named, split(boxes, image_index), [(HEIGHT, WIDTH)] * 2)
    ours = roi_align(levels, STRIDES, boxes, image_index, Pooling(size, ratio))
    assert ours.is_contiguous()
    torch.testing.assert_close(ours[order], expected, rtol=0, atol=1e-4)

    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    theirs = torch.autograd.grad((expected * weight).sum(), levels)
    mine = torch.autograd.grad((ours[order] * weight).sum(), levels)
    for ours_level, theirs_level in zip(mine, theirs, strict=True):
        assert theirs_level.abs().max() > 0.1
        torch.testing.assert_close(ours_level, theirs_level, rtol=0, atol=1e-4)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("way", [gather_roi_align, reference_roi_align])
def test_equals_operator(aligned: bool, way: Callable[..., Tensor]) -> None:
    level = pyramid()[0]
    boxes = varied_boxes()
    image_index = torch.arange(len(boxes)) % 2
    rois = torch.cat((image_index[:, None].float(), boxes), dim=1)
    expected = torchvision.ops.roi_align(level, rois, (7, 7), 1 / 4, 2, aligned)
    everywhere = torch.zeros(len(boxes), dtype=torch.int64)
    ours = way([level], [4], boxes, image_index, everywhere, Pooling(7, 2, aligned))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


def test_both_ways_agree_over_levels() -> None:
    levels = pyramid()
    boxes = varied_boxes()
    image_index = torch.arange(len(boxes)) % 2
    arguments = (levels, STRIDES, boxes, image_index, assign_levels(boxes, STRIDES), Pooling())
    torch.testing.assert_close(gather_roi_align(*arguments), reference_roi_align(*arguments), rtol=0, atol=1e-4)


def test_bfloat16_is_rounded_float32() -> None:
    levels = pyramid(dtype=torch.bfloat16)
    exact = [level.detach().float().requires_grad_() for level in levels]
    boxes = varied_boxes()
    image_index = torch.arange(len(boxes)) % 2
    with torch.autocast("cpu", torch.bfloat16):
        ours = roi_align(levels, STRIDES, boxes, image_index, Pooling())
    expected = roi_align(exact, STRIDES, boxes, image_index, Pooling())
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), expected, rtol=2**-7, atol=2**-7)
    ours.float().sum().backward()
    expected.sum().backward()
    for level, reference in zip(levels, exact, strict=True):
        assert level.grad.dtype == torch.bfloat16
        torch.testing.assert_close(level.grad.float(), reference.grad, rtol=2**-6, atol=2**-6)


def test_gradient_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(1, 2, 8 >> n, 8 >> n, dtype=torch.float64, generator=generator) for n in range(2)]
    boxes = torch.tensor([[3.0, 2, 25, 30], [-8, 4, 12, 40], [0, 0, 250, 300], [60, 60, 80, 80]])
    image_index = torch.zeros(4, dtype=torch.int64)

    def pooled(*maps: Tensor) -> Tensor:
        return roi_align(maps, [4, 8], boxes, image_index, Pooling(3, 2))

    assert set(assign_levels(boxes, [4, 8]).tolist()) == {0, 1}
    assert torch.autograd.gradcheck(pooled, [level.requires_grad_() for level in levels])


def test_no_boxes() -> None:
    levels = pyramid()
    ours = roi_align(levels, STRIDES, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), Pooling())
    assert ours.shape == (0, 6, 7, 7)
    ours.sum().backward()


def test_deterministic_mode_avoids_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> Tensor:
        raise AssertionError("the operator's backward adds atomically on accelerators")

    monkeypatch.setattr("heads.roi_align.reference_roi_align", forbidden)
    levels = [level.detach().to("meta") for level in pyramid()]
    boxes = varied_boxes().to("meta")
    index = torch.zeros(len(boxes), dtype=torch.int64, device="meta")
    with pytest.raises(AssertionError, match="atomically"):
        roi_align(levels, STRIDES, boxes, index, Pooling())
    monkeypatch.setattr("heads.roi_align.gather_roi_align", lambda *_: torch.ones(()))
    torch.use_deterministic_algorithms(True)
    try:
        assert roi_align(levels, STRIDES, boxes, index, Pooling()) == 1
    finally:
        torch.use_deterministic_algorithms(False)
