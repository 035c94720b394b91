"""Four images around a point: what each quarter shows is its image, objects and masks with it."""

import numpy as np
import pytest

from heads.contract import IGNORED
from tasks.data.augmentation.geometry import Annotated
from tasks.data.augmentation.mosaic import IMAGES, mosaic

FILL = np.array([7.0, 7.0, 7.0])


def plain(number: int, size: tuple[int, int] = (40, 60)) -> Annotated:
    """An image of one value, 50 for the first and 50 more for each, with one object that covers all of it."""
    height, width = size
    outlines = np.ones((1, height, width), np.uint8)
    image = np.full((height, width, 3), 50 * (number + 1), np.uint8)
    masks = np.full((height, width, 1), number + 1, np.uint8)
    return Annotated(image, np.array([[0.0, 0, width, height]]), np.array([number]), outlines, masks)


def joined(seed: int, scale: tuple[float, float], size: tuple[int, int] = (40, 60)) -> Annotated:
    parts = [plain(number, size if number == 0 else (50, 48)) for number in range(IMAGES)]
    return mosaic(parts, scale, FILL, False, np.random.default_rng(seed))


@pytest.mark.parametrize("scale", [(1.0, 2.0), (0.1, 0.3), (0.5, 1.5)])
def test_every_quarter_shows_its_image(scale: tuple[float, float]) -> None:
    for seed in range(50):
        item = joined(seed, scale)
        assert item.size == (40, 60)
        assert item.outlines is not None
        assert item.masks is not None
        assert item.rows.tolist() == [0, 1, 2, 3]
        for row, (x1, y1, x2, y2) in enumerate(item.boxes.round().astype(int)):
            inside = np.zeros((40, 60), bool)
            inside[y1:y2, x1:x2] = True
            np.testing.assert_array_equal(item.outlines[row] > 0, inside)
            np.testing.assert_array_equal(item.masks[:, :, 0] == row + 1, inside)
            np.testing.assert_array_equal((item.image == 50 * (row + 1)).all(axis=2), inside)
        rest = (item.image == FILL).all(axis=2)
        np.testing.assert_array_equal(item.masks[:, :, 0] == IGNORED, rest)
        if scale[0] >= 1:  # larger than the quarters wherever the point lies
            assert not rest.any()


def test_small_images_lie_at_the_point_where_all_meet() -> None:
    for seed in range(20):
        first, second, third, fourth = joined(seed, (0.1, 0.15)).boxes.round().tolist()
        assert first[2:] == [second[0], second[3]] == [third[2], third[1]] == fourth[:2]


def test_the_point_and_the_windows_are_drawn_evenly() -> None:
    """The point keeps a fifth of the sides from the edges; a larger image shows any of its windows."""
    points, firsts = [], []
    for seed in range(600):
        parts = [plain(number, (100, 100)) for number in range(IMAGES)]
        ramp = np.arange(100, dtype=np.uint8)
        parts[3].image = np.repeat(np.add.outer(0 * ramp, ramp)[:, :, None], 3, 2)
        item = mosaic(parts, (1.0, 1.0), FILL, False, np.random.default_rng(seed))
        x, y = item.boxes[3, :2]
        points.append((x, y))
        # The window's first column, as a share of the columns that it may begin at.
        firsts.append(item.image[99, int(x), 0] / x)
    spread = np.array(points)
    assert spread.min() == 20
    assert spread.max() == 80
    assert np.abs(spread.mean(axis=0) - 50).max() < 2.5
    assert np.abs(np.quantile(firsts, (0.25, 0.5, 0.75)) - (0.25, 0.5, 0.75)).max() < 0.07


@pytest.mark.parametrize("size", [(1, 1), (2, 3)])
def test_tiny_images(size: tuple[int, int]) -> None:
    for seed in range(10):
        item = joined(seed, (0.5, 1.5), size)
        assert item.size == size
        assert len(item.boxes) == len(item.rows) <= 4


def test_images_without_objects_or_annotation() -> None:
    parts = [plain(number) for number in range(IMAGES)]
    for part in parts:
        part.keep(np.zeros(1, bool))
        part.masks = None
    parts[2] = plain(2)
    parts[2].masks = None
    item = mosaic(parts, (1.0, 1.0), FILL, True, np.random.default_rng(0))
    assert item.rows.tolist() == [2]
    assert item.masks is None
    assert item.outlines is not None
    assert item.outlines.shape == (1, 40, 60)
