"""A warp equals torchvision's and scipy's; boxes, outlines and masks follow the pixels."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from heads.contract import IGNORED
from tasks.data.augmentation import affine
from tasks.data.augmentation.geometry import Annotated, boxes_of

FILL = np.array([5.0, 6.0, 7.0])


def smooth(height: int, width: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(0).uniform(0, 255, (height, width, channels))
    soft = ndimage.gaussian_filter(noise, (4, 4, 0))
    return ((soft - soft.min()) / (soft.max() - soft.min()) * 255).astype(np.uint8)


def item_of(image: npt.NDArray[np.uint8]) -> Annotated:
    return Annotated(image, np.zeros((0, 4)), np.arange(0))


@pytest.mark.parametrize("degrees", [-135.0, -20.0, 3.0, 45.0, 90.0])
@pytest.mark.parametrize("size", [(80, 120), (77, 53)])
def test_rotation_equals_torchvision(degrees: float, size: tuple[int, int]) -> None:
    image = smooth(*size)
    item = item_of(image)
    affine.warp(item, affine.about_centre(affine.rotation(degrees), size), size, FILL)
    tensor = torch.from_numpy(image).permute(2, 0, 1).float()
    theirs = functional.rotate(tensor, degrees, InterpolationMode.BILINEAR, fill=FILL.tolist())
    difference = np.abs(item.image - theirs.permute(1, 2, 0).numpy())
    assert np.percentile(difference, 93) <= 1  # the blending with what is outside differs along the edge


def test_a_quarter_turn_is_exact() -> None:
    image = smooth(64, 64)
    item = item_of(image)
    item.masks = image[:, :, :1].copy()
    affine.warp(item, affine.about_centre(affine.rotation(90), (64, 64)), (64, 64), FILL)
    np.testing.assert_array_equal(item.image, np.rot90(image))
    np.testing.assert_array_equal(item.masks, np.rot90(image[:, :, :1]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 5, 9])
def test_a_warp_equals_scipy(dtype: type, channels: int) -> None:
    image = smooth(60, 70, channels).astype(dtype)
    fill = np.arange(1.0, channels + 1)
    matrix = affine.shift(4.3, -2.6) @ affine.shear(0.2, -0.1) @ affine.scaling((10, 5, 40, 60), (50, 45))
    item = Annotated(image, np.zeros((0, 4)), np.arange(0))
    affine.warp(item, matrix, (50, 45), fill)
    assert item.image.shape == (50, 45, channels)
    assert item.image.dtype == dtype
    # scipy counts rows first, in indices of pixels.
    swap = np.eye(3)[[1, 0, 2]]
    half = affine.shift(0.5, 0.5)
    back = swap @ np.linalg.inv(np.linalg.inv(half) @ matrix @ half) @ swap
    for channel in range(channels):
        plane = image[:, :, channel].astype(np.float64)
        theirs = ndimage.affine_transform(
            plane, back[:2, :2], back[:2, 2], (50, 45), order=1, mode="grid-constant", cval=fill[channel]
        )
        assert np.abs(item.image[:, :, channel] - theirs).max() <= 6  # cv2 has 5 bits for the position
        assert np.abs(item.image[:, :, channel] - theirs).mean() <= 0.6


def rectangles(seed: int) -> Annotated:
    random = np.random.default_rng(seed)
    outlines = np.zeros((4, 120, 140), np.uint8)
    for outline in outlines:
        y, x = random.integers(35, 70, 2)
        outline[y : y + random.integers(6, 20), x : x + random.integers(6, 20)] = 1
    masks = outlines.transpose(1, 2, 0).copy()
    return Annotated(smooth(120, 140), boxes_of(outlines), np.arange(4), outlines, masks)


@pytest.mark.parametrize("strength", [0.0, 0.02])
def test_boxes_move_as_their_outlines(strength: float) -> None:
    """Two ways to the same boxes: by the corners and edges alone, and by warping every pixel inside."""
    worst = 0.0
    for seed in range(40):
        random = np.random.default_rng(seed)
        matrix = affine.about_centre(
            affine.rotation(random.uniform(-180, 180)) @ affine.shear(*random.uniform(-0.3, 0.3, 2)), (120, 140)
        )
        displacement = affine.random_displacement((120, 140), strength, random) if strength else None
        drawn, plain = rectangles(seed), rectangles(seed)
        plain.outlines = None
        for item in (drawn, plain):
            affine.warp(item, matrix, (120, 140), FILL, displacement)
        assert drawn.outlines is not None
        np.testing.assert_array_equal(drawn.boxes, boxes_of(drawn.outlines))
        np.testing.assert_array_equal(drawn.rows, plain.rows)
        inside = ((plain.boxes > 0) & (plain.boxes < [140, 120, 140, 120])).all(axis=1)
        worst = max(worst, np.abs(drawn.boxes - plain.boxes)[inside].max(initial=0))
        assert inside.any()
        # Instance and semantic masks took the same way.
        assert drawn.masks is not None
        known = drawn.masks[:, :, 0] != IGNORED
        for row, outline in zip(drawn.rows, drawn.outlines, strict=True):
            np.testing.assert_array_equal(drawn.masks[:, :, row][known], outline[known])
    # A corner of a turned rectangle is a point, and the nearest pixel may miss it.
    assert worst <= 1.6


def test_what_comes_from_outside() -> None:
    item = Annotated(smooth(40, 40), np.zeros((0, 4)), np.arange(0), np.ones((0, 40, 40), np.uint8))
    item.masks = np.ones((40, 40, 6), np.uint8)
    affine.warp(item, affine.shift(10, 0), (40, 40), FILL)
    assert (item.image[:, :10] == FILL).all()
    assert (item.masks[:, :10] == IGNORED).all()
    assert (item.masks[:, 10:] == 1).all()
    assert item.outlines is not None
    assert item.outlines.shape == (0, 40, 40)


def test_what_leaves_the_image_is_dropped() -> None:
    for outlined in (True, False):
        item = rectangles(0)
        if not outlined:
            item.outlines = None
        right = item.boxes[:, 2].max()
        affine.warp(item, affine.shift(140 - right + 0.5, 0), (120, 140), FILL)
        assert len(item.boxes) == 4
        affine.warp(item, affine.shift(0, 200), (120, 140), FILL)
        assert len(item.boxes) == len(item.rows) == 0
        assert item.outlines is None or item.outlines.shape == (0, 120, 140)


def test_a_displacement_has_its_strength() -> None:
    fields = [affine.random_displacement((90, 60), 0.02, np.random.default_rng(seed)) for seed in range(300)]
    middle = np.array([field[45, 30] for field in fields])
    np.testing.assert_allclose(middle.std(axis=0), [0.02 * 60, 0.02 * 90], rtol=0.15)
    assert max(np.abs(np.diff(field, axis=0)).max() for field in fields) < 0.5  # smooth: nothing folds
