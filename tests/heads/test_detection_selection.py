"""What is returned of many boxes; that it equals torchvision's choice is shown in test_one_stage_parity."""

import torch
from torch import Tensor

from heads import Detections, ImageSizes
from heads.detection_selection import Selection, logits_of_boxes, select_detections

SIZES = ImageSizes((64, 64), torch.tensor([[64, 64], [40, 50]]), torch.tensor([[128, 64], [80, 100]]))
# Six entries in two levels of four and two; the second overlaps the first, the fourth has no area in the image.
BOXES = torch.tensor(
    [[0.0, 0, 20, 20], [1, 1, 20, 20], [30, 30, 60, 60], [70, 0, 90, 9], [0, 0, 64, 64], [5, 40, 15, 50]]
)
SCORES = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.3, 0.0], [1.0, 1.0], [0.0, 0.6], [0.2, 0.5]])


def chosen(**options: object) -> list[Detections]:
    settings = {"score_threshold": 0.15, "pre_nms": 100, "nms_iou": 0.5, "detections_per_image": 100, **options}
    asked: list[Tensor] = []

    def boxes_at(index: Tensor) -> Tensor:
        asked.append(index)
        return BOXES[index]

    found = select_detections(SCORES.expand(2, -1, -1), (4, 2), boxes_at, SIZES, Selection(**settings))
    assert len(asked) == 1
    return found


def test_of_each_class_the_best_that_do_not_overlap() -> None:
    first, second = chosen()
    assert first.scores.tolist() == torch.tensor([0.9, 0.7, 0.6, 0.5, 0.3, 0.2]).tolist()
    assert first.labels.tolist() == [0, 1, 1, 1, 0, 0]
    # In the pixels of the original, twice as high and no wider.
    assert first.boxes[0].tolist() == [0, 0, 20, 40]
    assert second.boxes[0].tolist() == [0, 0, 40, 40]
    # Cut off at the border of the image: 40 pixels high, 50 wide, each then doubled.
    assert [100.0, 80.0] in second.boxes[:, 2:].tolist()
    assert second.boxes[:, 2].max() == 100


def test_limits() -> None:
    assert chosen(detections_per_image=2)[0].scores.tolist() == chosen()[0].scores[:2].tolist()
    assert chosen(score_threshold=0.5)[0].scores.tolist() == chosen()[0].scores[:3].tolist()  # more, not as much
    # Two of each level, of which the first has the two of no area.
    assert chosen(pre_nms=3)[0].scores.tolist() == torch.tensor([0.9, 0.6, 0.5, 0.2]).tolist()
    assert len(chosen(nms_iou=1.0)[0].scores) == 7


def test_logits_of_given_boxes() -> None:
    logits = torch.arange(24.0).view(2, 6, 2)
    centres = (BOXES[:, :2] + BOXES[:, 2:]) / 2
    boxes = BOXES.clone()
    boxes[4] = torch.tensor([0.0, 50, 4, 54])
    # As found; a little moved; where no entry's box is.
    asked = torch.tensor([[0.0, 0, 20, 40], [28, 58, 61, 118], [40, 2, 44, 4]])
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    given = [Detections(asked, torch.ones(3), torch.zeros(3, dtype=torch.int64)), none]
    first, second = logits_of_boxes(logits, boxes.expand(2, -1, -1), centres, SIZES, given)
    nearest = int((centres - torch.tensor([42.0, 1.5])).norm(dim=1).argmin())
    assert first.tolist() == logits[0][[0, 2, nearest]].tolist()
    assert second.shape == (0, 2)
