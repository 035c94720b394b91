"""Pasted objects cover what lies below them, in the image, the outlines, the boxes and the masks."""

import numpy as np
import pytest

from heads.contract import IGNORED
from tasks.data.augmentation.copy_paste import bring_to_size, choose_objects, copy_paste
from tasks.data.augmentation.geometry import Annotated, boxes_of

FILL = np.array([7.0])


def boxed(boxes: list[tuple[int, int, int, int]], value: int, first_row: int = 0) -> Annotated:
    """40 x 60 pixels of `value` with filled rectangles of `value` + 10, + 20, ... and masks of classes 1, 2, ..."""
    outlines = np.zeros((len(boxes), 40, 60), np.uint8)
    image, masks = np.full((40, 60, 1), value, np.uint8), np.zeros((40, 60, 1), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        outlines[number, y1:y2, x1:x2] = 1
        image[y1:y2, x1:x2], masks[y1:y2, x1:x2] = value + 10 * (number + 1), number + 1
    rows = np.arange(first_row, first_row + len(boxes))
    return Annotated(image, np.array(boxes, np.float64), rows, outlines, masks)


def test_what_is_covered_is_taken_away() -> None:
    below = boxed([(10, 10, 30, 30), (40, 5, 50, 15), (20, 20, 24, 24)], 0)
    upon = boxed([(5, 15, 25, 40), (55, 0, 60, 5)], 100, first_row=3)
    before = (below.image.copy(), below.outlines.copy() if below.outlines is not None else None)
    item = copy_paste(below, upon, np.array([0]))
    # The first loses a corner, which leaves its box as it was; the second is not touched; the third is gone.
    assert item.rows.tolist() == [0, 1, 3]
    assert item.boxes.tolist() == [[10, 10, 30, 30], [40, 5, 50, 15], [5, 15, 25, 40]]
    assert item.outlines is not None
    assert item.masks is not None
    pasted = item.outlines[2] > 0
    assert (item.image[pasted] == 110).all()
    assert (item.image[0:5, 55:60] == 0).all(), "what was not chosen stays away"
    assert (item.masks[pasted] == 1).all()
    assert not (item.outlines[0] & item.outlines[2]).any()
    assert item.outlines[0].sum() == 20 * 20 - 15 * 15
    np.testing.assert_array_equal(item.image[~pasted], before[0][~pasted])
    np.testing.assert_array_equal(below.image, before[0], "what was given stays as it was")
    np.testing.assert_array_equal(below.outlines, before[1])


def test_the_box_shrinks_where_a_side_is_covered() -> None:
    below, upon = boxed([(10, 10, 30, 30)], 0), boxed([(5, 5, 35, 22)], 100, first_row=1)
    item = copy_paste(below, upon, np.array([0]))
    assert item.boxes.tolist() == [[10, 22, 30, 30], [5, 5, 35, 22]]


def test_random_cases_hold_together() -> None:
    """Boxes are those of the outlines, an outline below has no pixel in common with a pasted one, counts add up."""
    random, pasted, lost = np.random.default_rng(0), 0, 0
    for _ in range(300):
        items = []
        for first in (0, 4):
            corners = np.sort(random.integers(0, [60, 40], (4, 2, 2)), axis=1)
            corners[:, 1] = np.minimum(corners[:, 1] + 2, [60, 40])
            corners[:, 0] = np.minimum(corners[:, 0], corners[:, 1] - 2)
            items.append(boxed([tuple(box) for box in corners.reshape(4, 4).tolist()], first, first))
        below, upon = items
        chosen = choose_objects(np.array([True, False, True, True]), random)
        assert 1 not in chosen
        assert 1 <= len(chosen) <= 3
        item = copy_paste(below, upon, chosen)
        assert item.outlines is not None
        assert len(item.boxes) == len(item.rows) == len(item.outlines)
        assert np.abs(boxes_of(item.outlines) - item.boxes).max() <= 1
        own, new = item.outlines[item.rows < 4], item.outlines[item.rows >= 4]
        assert not (own.any(axis=0) & new.any(axis=0)).any()
        assert (item.rows[item.rows >= 4] - 4).tolist() == chosen.tolist()
        pasted, lost = pasted + len(new), lost + 4 - len(own)
    assert 500 < pasted < 700  # one, two or three of three, each as often
    assert lost > 50


def test_none_to_choose() -> None:
    assert choose_objects(np.zeros(5, bool), np.random.default_rng(0)).tolist() == []


@pytest.mark.parametrize("size", [(40, 60), (25, 80), (60, 30), (90, 90), (10, 10)])
def test_bringing_to_size_moves_everything(size: tuple[int, int]) -> None:
    places = set()
    for seed in range(30):
        item = boxed([(20, 12, 41, 29)], 0)
        bring_to_size(item, size, FILL, np.random.default_rng(seed))
        assert item.size == size
        assert item.outlines is not None
        assert item.masks is not None
        assert item.masks.shape[:2] == size
        np.testing.assert_array_equal(boxes_of(item.outlines), item.boxes)
        shown = item.image[:, :, 0] == 10
        np.testing.assert_array_equal(shown, item.outlines.any(axis=0) if len(item.rows) else np.zeros(size, bool))
        np.testing.assert_array_equal(item.masks[:, :, 0] == IGNORED, item.image[:, :, 0] == 7)
        places.add(tuple(item.boxes.reshape(-1).tolist()))
    assert len(places) > 8 or size == (40, 60)
