"""Names of boxes do not hide what a picture shows."""

import numpy as np

from tasks.detection.draw import CROWD, draw_boxes
from tasks.drawing import Picture
from tasks.label_map import LabelMap

CLASSES = LabelMap(ids=(1,), names=("nucleus",))


def drawn_share(count: int, side: float) -> float:
    """Share of a black picture that is drawn on, for boxes of one size at the same places."""
    picture = Picture(np.zeros((640, 640, 3), np.uint8), 1)
    corner = np.array([[40.0 + 140 * (i % 4), 40.0 + 140 * (i // 4)] for i in range(count)])
    boxes = np.concatenate((corner, corner + side), axis=1)
    draw_boxes(picture, boxes, np.zeros(count, np.int64), CLASSES)
    return float(picture.pixels.any(axis=2).mean()) / count


def test_among_many_boxes_the_narrow_ones_have_no_name() -> None:
    assert drawn_share(CROWD + 1, 20) < 0.5 * drawn_share(CROWD, 20)


def test_wide_boxes_keep_their_names() -> None:
    assert drawn_share(CROWD + 1, 100) > 0.9 * drawn_share(CROWD, 100)
