import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator as Reference
from torchvision.models.detection.image_list import ImageList

from heads.anchors import AnchorGenerator

RATIOS = (0.5, 1.0, 2.0)


def grids_of(height: int, width: int) -> list[tuple[int, int]]:
    grids = [(height // stride, width // stride) for stride in (4, 8, 16, 32)]
    return [*grids, (-(-grids[-1][0] // 2), -(-grids[-1][1] // 2))]


# 800 / 32 is odd: its coarsest level has cells of 61, not 64 pixels.
@pytest.mark.parametrize("padded", [(64, 96), (128, 224), (800, 1344)])
@pytest.mark.parametrize("sizes", [(32, 64, 128, 256, 512), (8, 19, 33, 70, 200)])
def test_equal_torchvision(padded: tuple[int, int], sizes: tuple[int, ...]) -> None:
    grids = grids_of(*padded)
    reference = Reference(tuple((size,) for size in sizes), (RATIOS,) * 5)
    images = ImageList(torch.zeros(1, 3, *padded), [padded])
    (expected,) = reference(images, [torch.zeros(1, 1, *grid) for grid in grids])
    anchors = AnchorGenerator(sizes, RATIOS)(padded, grids)
    assert anchors.boxes.dtype == torch.float32
    assert torch.equal(anchors.boxes, expected)
    assert anchors.counts == tuple(3 * rows * columns for rows, columns in grids)
    assert len(anchors.elements.unique()) == len(expected)


def test_several_sizes_a_level_equal_torchvision() -> None:
    """As RetinaNet has them: ratio after ratio, in each of them size after size."""
    sizes = [(size, size * 5 // 4, size * 8 // 5) for size in (32, 64, 128)]
    grids = [(16, 28), (8, 14), (4, 7)]
    reference = Reference(tuple(sizes), (RATIOS,) * 3)
    images = ImageList(torch.zeros(1, 3, 128, 224), [(128, 224)])
    (expected,) = reference(images, [torch.zeros(1, 1, *grid) for grid in grids])
    generator = AnchorGenerator(sizes, RATIOS)
    anchors = generator((128, 224), grids)
    assert generator.per_cell == anchors.per_cell == 9
    assert torch.equal(anchors.boxes, expected)
    assert len(anchors.elements.unique()) == len(expected)
    places = anchors.places(torch.arange(len(expected))[None])
    assert places.level[0].bincount().tolist() == list(anchors.counts)


def test_with_an_offset_they_lie_in_the_middle_of_their_cells() -> None:
    anchors = AnchorGenerator((8, 16), (1.0,), (8, 16), offset=0.5)((32, 48), [(4, 6), (2, 3)])
    assert anchors.boxes[0].tolist() == [0, 0, 8, 8]
    assert anchors.boxes[-1].tolist() == [32, 16, 48, 32]


def test_with_strides_nothing_is_rounded() -> None:
    """As Detectron2 and MMDetection define anchors; 800 / 32 is odd, and yet the coarsest level keeps its 64 pixels."""
    sizes, strides = (32, 64, 128, 256, 512), (4, 8, 16, 32, 64)
    grids = grids_of(800, 1344)
    anchors = AnchorGenerator(sizes, RATIOS, strides)((800, 1344), grids)
    for boxes, size, stride, (_, columns) in zip(
        anchors.boxes.split(anchors.counts), sizes, strides, grids, strict=True
    ):
        row, column, ratio = 3, 5, 2
        width = size / RATIOS[ratio] ** 0.5
        height = size * RATIOS[ratio] ** 0.5
        x, y = column * stride, row * stride
        expected = torch.tensor([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        torch.testing.assert_close(boxes[(row * columns + column) * 3 + ratio], expected)


def test_elements_and_inside_do_not_depend_on_padding() -> None:
    generator = AnchorGenerator((32, 64, 128, 256, 512), RATIOS)
    valid = torch.tensor([[60, 90]])
    kept = []
    for padded in [(64, 128), (256, 320)]:
        anchors = generator(padded, grids_of(*padded))
        inside = anchors.inside(valid)[0]
        order = anchors.elements[inside].sort()
        kept.append((order.values, anchors.boxes[inside][order.indices]))
        centres = (anchors.boxes[~inside, :2] + anchors.boxes[~inside, 2:]) / 2
        assert (centres >= torch.tensor([90, 60])).any(dim=1).all()
    assert torch.equal(kept[0][0], kept[1][0])
    assert torch.equal(kept[0][1], kept[1][1])


def test_anchors_stay_float32_in_a_bfloat16_model() -> None:
    anchors = AnchorGenerator((32.0,), RATIOS).to(torch.bfloat16)((512, 512), [(128, 128)])
    assert anchors.boxes.dtype == torch.float32
    assert len(anchors.boxes.unique(dim=0)) == 3 * 128 * 128
