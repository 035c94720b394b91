import torch
from torchvision.models.detection._utils import BoxLinearCoder

from heads.anchors import AnchorGenerator
from heads.points import Points, boxes_around, distances_to

STRIDES = (8, 16, 32)
GRIDS = [(6, 10), (3, 5), (2, 3)]


def test_boxes_and_distances_equal_torchvision() -> None:
    torch.manual_seed(0)
    cells = AnchorGenerator(STRIDES, (1.0,), STRIDES)((48, 80), GRIDS)
    points = Points.of(cells)
    distances = torch.rand(2, len(cells.boxes), 4) * 5
    coder = BoxLinearCoder(normalize_by_size=True)
    boxes = boxes_around(points, distances)
    torch.testing.assert_close(boxes, coder.decode(distances, cells.boxes.expand(2, -1, -1)))
    torch.testing.assert_close(distances_to(points, boxes), distances)
    index = torch.tensor([[0, 61, 80], [5, 5, 79]])
    chosen = distances.gather(1, index[..., None].expand(-1, -1, 4))
    few = boxes_around(points.chosen(index), chosen)
    torch.testing.assert_close(few, boxes.gather(1, index[..., None].expand(-1, -1, 4)))


def test_levels_sizes_and_what_is_inside() -> None:
    points = Points.of(AnchorGenerator(STRIDES, (1.0,), STRIDES, offset=0.5)((48, 80), GRIDS))
    assert points.counts == (60, 15, 6)
    assert points.level.bincount().tolist() == [60, 15, 6]
    for number, stride in enumerate(STRIDES):
        own = points.centres[points.level == number]
        assert own[0].tolist() == [stride / 2, stride / 2]  # the middle of the cell
        assert set(points.size[points.level == number].tolist()) == {float(stride)}
    inside = points.inside(torch.tensor([[48, 80], [20, 30]]))
    assert inside[0, :75].all()  # the last level's cells reach beyond the image
    assert ((points.centres[inside[1]] < torch.tensor([30, 20])).all(-1)).all()
    assert ((points.centres[~inside[1]] >= torch.tensor([30, 20])).any(-1)).all()
