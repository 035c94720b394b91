"""Resizing equals torchvision's and PIL's; crops and turns move everything together."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from heads.contract import IGNORED
from tasks.data.augmentation.geometry import (
    Annotated,
    boxes_of,
    crop,
    flip,
    quarter_turn,
    random_rectangle,
    resize,
    resize_image,
)

FILL = np.array([10.0, 20.0, 30.0])


def scene(height: int = 30, width: int = 50) -> Annotated:
    """Two objects: an L and a bar; the mask is their sum."""
    outlines = np.zeros((2, height, width), np.uint8)
    outlines[0, 5:25, 10:14] = outlines[0, 21:25, 10:30] = 1
    outlines[1, 2:4, 30:50] = 1
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks = np.stack([outlines[0] + 2 * outlines[1]], 2).astype(np.uint8)
    return Annotated(image, np.array([[10, 5, 30, 25], [30, 2, 50, 4]], np.float64), np.arange(2), outlines, masks)


@pytest.mark.parametrize("size", [(40, 33), (17, 80), (224, 224)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_antialiasing_equals_torchvision(size: tuple[int, int], dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, 256, (97, 130, 3)).astype(dtype)
    ours = resize_image(image, size, antialias=True)
    tensor = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)
    theirs = functional.resize(tensor, list(size), antialias=True).permute(1, 2, 0).numpy()
    assert ours.dtype == dtype
    assert ours.shape == (*size, 3)
    # Larger images come from cv2, which has 5 bits for the position between two pixels.
    enlarged = size[0] >= 97 and size[1] >= 130
    assert np.abs(ours - theirs).max() <= (4 if enlarged else 1e-3 if dtype == np.float32 else 1)
    if dtype == np.uint8 and not enlarged:
        drawn = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
        assert np.abs(ours.astype(int) - drawn).max() <= 1


@pytest.mark.parametrize("channels", [2, 3, 4, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_antialiasing_takes_each_channel_alike(channels: int, dtype: type) -> None:
    """However they lie in memory, and in a part of a larger image."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, channels)).astype(dtype)
    for part in (image, image[5:50, 10:70]):
        each = [resize_image(np.ascontiguousarray(part[:, :, [c]]), (30, 33), antialias=True) for c in range(channels)]
        whole = resize_image(part, (30, 33), antialias=True)
        assert whole.flags.c_contiguous
        np.testing.assert_array_equal(whole, np.concatenate(each, 2))


def test_antialiasing_of_arrays_that_torch_does_not_take() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    turned = resize_image(np.rot90(image), (20, 20), antialias=True)
    np.testing.assert_array_equal(turned, resize_image(np.rot90(image).copy(), (20, 20), antialias=True))
    image.setflags(write=False)
    assert resize_image(image, (20, 20), antialias=True).shape == (20, 20, 3)


@pytest.mark.parametrize("size", [(60, 100), (15, 25), (20, 20)])
def test_masks_are_resized_as_pil_resizes_them(size: tuple[int, int]) -> None:
    item = scene()
    before = Image.fromarray(item.masks[:, :, 0])  # type: ignore[index]
    resize(item, size)
    assert item.masks is not None
    np.testing.assert_array_equal(item.masks[:, :, 0], before.resize(size[::-1], Image.Resampling.NEAREST))


def test_a_crop_inside() -> None:
    item, before = scene(), scene()
    crop(item, 3, 8, (12, 30), FILL)
    np.testing.assert_array_equal(item.image, before.image[3:15, 8:38])
    assert item.masks is not None
    assert item.outlines is not None
    np.testing.assert_array_equal(item.masks, before.masks[3:15, 8:38])  # type: ignore[index]
    np.testing.assert_array_equal(item.outlines, before.outlines[:, 3:15, 8:38])  # type: ignore[index]
    # Of the L only the upright is left.
    assert item.boxes.tolist() == [[2, 2, 6, 12], [22, 0, 30, 1]]
    assert item.rows.tolist() == [0, 1]


def test_without_outlines_a_box_is_clipped() -> None:
    item = scene()
    item.outlines = None
    crop(item, 3, 8, (12, 30), FILL)
    assert item.boxes.tolist() == [[2, 2, 22, 12], [22, 0, 30, 1]]


def test_a_crop_over_the_edges() -> None:
    item, before = scene(), scene()
    crop(item, -4, 20, (50, 40), FILL)
    np.testing.assert_array_equal(item.image[4:34, :30], before.image[:, 20:])
    assert item.masks is not None
    np.testing.assert_array_equal(item.masks[4:34, :30], before.masks[:, 20:])  # type: ignore[index]
    outside = np.ones((50, 40), bool)
    outside[4:34, :30] = False
    assert (item.image[outside] == FILL).all()
    assert (item.masks[outside] == IGNORED).all()
    assert item.outlines is not None
    assert not item.outlines[:, outside].any()
    assert item.boxes.tolist() == [[0, 25, 10, 29], [10, 6, 30, 8]]


def test_objects_outside_a_crop_are_dropped() -> None:
    item = scene()
    crop(item, 10, 0, (20, 12), FILL)
    assert item.rows.tolist() == [0]
    item.outlines = None
    crop(item, 0, 9, (20, 2), FILL)
    assert item.rows.tolist() == [0]
    crop(item, 0, 0, (20, 1), FILL)  # nothing is left of it
    assert len(item.rows) == 0


@pytest.mark.parametrize("times", [0, 1, 2, 3, 4, 7])
def test_quarter_turns_are_exact(times: int) -> None:
    item, before = scene(), scene()
    quarter_turn(item, times)
    np.testing.assert_array_equal(item.image, np.rot90(before.image, times))
    np.testing.assert_array_equal(item.masks, np.rot90(before.masks, times))  # type: ignore[arg-type]
    assert item.outlines is not None
    np.testing.assert_array_equal(item.outlines[1], np.rot90(before.outlines[1], times))  # type: ignore[index]
    np.testing.assert_array_equal(item.boxes, boxes_of(item.outlines))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5, 130])  # cv2 takes 128 at most
def test_mirroring_and_antialiasing_of_any_channels(channels: int, dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 20, channels)).astype(dtype)
    for horizontal, vertical in ((True, False), (False, True), (True, True)):
        item = Annotated(image.copy(), np.array([[1.0, 2.0, 5.0, 9.0]]), np.arange(1))
        flip(item, horizontal, vertical)
        expected = image[:: -1 if vertical else 1, :: -1 if horizontal else 1]
        np.testing.assert_array_equal(item.image, expected)
        assert item.image.dtype == dtype
        left, top = (15.0 if horizontal else 1.0), (3.0 if vertical else 2.0)
        assert item.boxes.tolist() == [[left, top, left + 4, top + 7]]
    resized = resize_image(image, (8, 9), antialias=True)
    each = [resize_image(image[:, :, [channel]].copy(), (8, 9), antialias=True) for channel in range(channels)]
    np.testing.assert_array_equal(resized, np.concatenate(each, axis=2))


def test_boxes_of_outlines() -> None:
    outlines = np.random.default_rng(0).random((50, 9, 7)) < 0.03
    for mask, box in zip(outlines, boxes_of(outlines.astype(np.uint8)), strict=True):
        rows, columns = np.nonzero(mask)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0] * 4
        assert box.tolist() == expected


@pytest.mark.parametrize("size", [(200, 300), (100, 400), (40, 30)])
def test_random_rectangles_are_distributed_as_in_torchvision(size: tuple[int, int]) -> None:
    areas, count = (0.08, 1.0), 1500
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    crops = v2.RandomResizedCrop(224, scale=areas)
    blank = torch.zeros(1, *size)
    ours = np.array([random_rectangle(size, areas, random) for _ in range(count)])
    drawn = [crops.make_params([blank]) for _ in range(count)]
    theirs = np.array([[p["top"], p["left"], p["height"], p["width"]] for p in drawn])
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= size).all()
    for what in (lambda r: r[:, 2] * r[:, 3], lambda r: r[:, 3] / r[:, 2], lambda r: r[:, 0], lambda r: r[:, 1]):
        assert ks_2samp(what(ours), what(theirs)).pvalue > 1e-3


def test_a_rectangle_where_none_fits() -> None:
    top, left, height, width = random_rectangle((10, 1000), (1.0, 1.0), np.random.default_rng(0))
    assert (top, left, height, width) == (0, (1000 - 13) // 2, 10, 13)
    assert math.isclose(width / height, 4 / 3, rel_tol=0.05)


def test_masks_of_more_classes_than_cv2_has_channels() -> None:
    item, one = scene(), scene()
    assert item.masks is not None
    item.masks = np.concatenate([item.masks * (i == 140) for i in range(200)], 2)
    resize(item, (17, 80))
    resize(one, (17, 80))
    assert one.masks is not None
    assert item.masks.shape == (17, 80, 200)
    np.testing.assert_array_equal(item.masks[:, :, 140], one.masks[:, :, 0])
    assert not item.masks[:, :, 141:].any()
