"""Resizing equals torchvision's; boxes, masks and labels stay together under every change."""

import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from tasks.config import AugmentConfig, DataConfig
from tasks.data.augmentation.augment import Augmentation
from tasks.data.augmentation.geometry import Annotated, clip, resize
from tasks.data.batches import collate
from tasks.data.evaluated_size import resized_size
from tasks.data.sample import Sample
from tasks.image_spec import ImageSpec


@pytest.mark.parametrize("size", [(480, 640), (640, 427), (375, 500), (333, 999), (31, 47), (800, 800), (1333, 100)])
@pytest.mark.parametrize(("short", "long"), [(320, 427), (800, 1333), (97, 200)])
def test_resizing_equals_torchvision(size: tuple[int, int], short: int, long: int) -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    boxes = random.uniform(0, 1, (5, 2)) * np.array(size[::-1]) * 0.5
    boxes = np.concatenate([boxes, boxes + 0.4 * np.array(size[::-1])], 1)
    transform = GeneralizedRCNNTransform(short, long, [0, 0, 0], [1, 1, 1], size_divisible=1)
    target = {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.zeros(5, dtype=torch.int64)}
    theirs, targets = transform([torch.from_numpy(image).permute(2, 0, 1).float()], [target])
    item = Annotated(image, boxes, np.arange(5))
    resize(item, resized_size(size, short, long))
    assert item.image.shape[:2] == theirs.image_sizes[0]
    difference = theirs.tensors[0].permute(1, 2, 0).numpy() - item.image
    assert np.abs(difference).max() <= 1
    np.testing.assert_allclose(item.boxes, targets[0]["boxes"].numpy(), atol=2e-3)


def rectangles(seed: int, count: int = 6) -> Annotated:
    """An image whose pixels, boxes and masks all tell the same: object k is a filled rectangle of its own value."""
    random = np.random.default_rng(seed)
    height, width = (int(v) for v in random.integers(40, 120, 2))
    corners = np.sort(random.integers(0, [[width, height]], (count, 2, 2)), 1).astype(np.float64)
    corners[:, 1] = np.minimum(corners[:, 1] + 2, [width, height])
    boxes = corners.reshape(count, 4)
    masks = np.zeros((count, height, width), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = 1
    image = np.repeat((masks[0] * 200)[:, :, None], 3, 2)
    return Annotated(image, boxes, np.arange(count), masks)


def augmentation(
    config: AugmentConfig, short_side: tuple[int, ...], long_side: int, channels: int = 3, bit_depth: int = 8
) -> Augmentation:
    spec = ImageSpec(channels=channels, bit_depth=bit_depth, mean=(0.4,) * channels, std=(0.2,) * channels)
    return Augmentation(DataConfig(augment=config, short_side=short_side, long_side=long_side), spec)


def boxes_of(masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    boxes = []
    for mask in masks:
        y, x = np.nonzero(mask)
        boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
    return np.array(boxes, np.float64).reshape(-1, 4)


EVERYTHING = AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5, colour=0.5, scale_jitter=(0.5, 2.0), crop=(50, 70))
CHANGES = [
    AugmentConfig(horizontal_flip=1.0),
    AugmentConfig(horizontal_flip=0.0, vertical_flip=1.0),
    AugmentConfig(horizontal_flip=0.0, scale_jitter=(0.4, 2.5)),
    AugmentConfig(horizontal_flip=0.0, crop=(40, 40)),
    EVERYTHING,
]


@pytest.mark.parametrize("config", CHANGES)
def test_boxes_equal_the_boxes_of_masks(config: AugmentConfig) -> None:
    augment = augmentation(config, (60, 90), 150)
    kept = 0
    for seed in range(100):
        item = rectangles(seed)
        augment(item, seed)
        clip(item)
        assert item.outlines is not None
        assert item.outlines.shape == (len(item.boxes), *item.image.shape[:2])
        assert len(item.rows) == len(item.boxes)
        assert np.abs(boxes_of(item.outlines) - item.boxes).max(initial=0) <= 1
        kept += len(item.boxes)
        # The pixels went the same way: object 0 is bright. (Its edge is blurred by resizing, so look at the middle.)
        if 0 in item.rows and not config.colour:
            x1, y1, x2, y2 = item.boxes[item.rows == 0][0]
            assert item.image[int((y1 + y2) / 2), int((x1 + x2) / 2), 0] > 60
    assert kept > 200


def test_the_same_without_masks() -> None:
    augment = augmentation(EVERYTHING, (60, 90), 150)
    for seed in range(20):
        with_masks, without = rectangles(seed), rectangles(seed)
        without.outlines = None
        augment(with_masks, seed)
        augment(without, seed)
        np.testing.assert_array_equal(with_masks.image, without.image)
        # The box of an object that was cut is that of what is left of its outline, in whole pixels.
        _, ours, theirs = np.intersect1d(with_masks.rows, without.rows, return_indices=True)
        np.testing.assert_allclose(with_masks.boxes[ours], without.boxes[theirs], atol=1)
        for item, both in ((with_masks, ours), (without, theirs)):
            alone = np.delete(item.boxes, both, 0)
            assert ((alone[:, 2:] - alone[:, :2]).min(axis=1) <= 1).all()  # a pixel more or less


@pytest.mark.parametrize("config", CHANGES)
def test_only_the_seed_decides(config: AugmentConfig) -> None:
    first, second = augmentation(config, (60, 90), 150), augmentation(config, (60, 90), 150)
    for seed in (5, 6):  # the first has drawn before
        first(rectangles(0), seed)
    one, two, other = rectangles(1), rectangles(1), rectangles(1)
    first(one, 7)
    second(two, 7)
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.boxes, two.boxes)
    changed = False
    for seed in range(8, 14):
        other = rectangles(1)
        second(other, seed)
        changed |= other.image.shape != one.image.shape or not np.array_equal(other.image, one.image)
    assert changed


def test_flipping_is_exact() -> None:
    item = rectangles(3)
    height, width = item.image.shape[:2]
    x1, y1, x2, y2 = item.boxes.T.copy()
    image = item.image.copy()
    augmentation(AugmentConfig(horizontal_flip=1.0, vertical_flip=1.0), (min(height, width),), 10_000)(item, 0)
    np.testing.assert_array_equal(item.image, image[::-1, ::-1])
    np.testing.assert_array_equal(item.boxes, np.stack([width - x2, height - y2, width - x1, height - y1], 1))


def test_a_crop_has_its_size_and_drops_what_it_leaves_out() -> None:
    augment = augmentation(AugmentConfig(horizontal_flip=0.0, crop=(30, 30)), (60,), 150)
    dropped = 0
    for seed in range(30):
        item = rectangles(seed)
        augment(item, seed)
        assert item.image.shape == (30, 30, 3)
        assert (item.boxes >= 0).all()
        assert (item.boxes <= 30).all()
        dropped += 6 - len(item.boxes)
    assert dropped > 0
    large = augmentation(AugmentConfig(horizontal_flip=0.0, crop=(400, 300)), (60,), 150)
    item = rectangles(0)
    large(item, 0)
    assert item.image.shape == (400, 300, 3)
    assert np.abs(boxes_of(item.outlines) - item.boxes).max() <= 1  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("boxes", [0, 4])
def test_every_kind_of_image(channels: int, dtype: Any, boxes: int) -> None:
    augment = augmentation(EVERYTHING, (60,), 150, channels, 8 * np.dtype(dtype).itemsize)
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (50, 80, channels), dtype=dtype)
    item = Annotated(image, rectangles(0, 4).boxes[:boxes].clip(0, 40), np.arange(boxes), None)
    augment(item, 3)
    assert item.image.dtype == dtype
    assert item.image.shape == (50, 70, channels)


def test_sixteen_bits_keep_all_levels() -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    item = Annotated(ramp, np.zeros((0, 4)), np.arange(0))
    augmentation(AugmentConfig(horizontal_flip=0.0, crop=(256, 256)), (256,), 256, 1, 16)(item, 0)
    np.testing.assert_array_equal(item.image, ramp)


def test_colour_changes_pixels_only() -> None:
    item, before = rectangles(2), rectangles(2)
    before.image[:] = item.image[:] = np.random.default_rng(0).integers(0, 256, item.image.shape, dtype=np.uint8)
    side = min(item.image.shape[:2])
    augmentation(AugmentConfig(horizontal_flip=0.0, colour=1.0), (side,), 10_000)(item, 0)
    assert np.abs(item.image.astype(int) - before.image).mean() > 5
    np.testing.assert_array_equal(item.boxes, before.boxes)


def test_albumentations_is_not_imported_before_it_is_needed() -> None:
    code = "import sys; import tasks.data.loader, tasks.data.splits; sys.exit('albumentations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DEEP = [(np.uint16, np.arange(65536, dtype=np.uint16)), (np.float32, np.linspace(-1000, 3000, 65536, dtype=np.float32))]


@pytest.mark.parametrize(("dtype", "values"), DEEP)
def test_deep_images_keep_every_value(dtype: Any, values: npt.NDArray[Any]) -> None:
    """Through every change that only moves pixels, and into the tensor."""
    config = AugmentConfig(
        horizontal_flip=0.5, vertical_flip=0.5, quarter_turns=True, crop=(256, 256), crop_padding=0, erase=0.0
    )
    for seed in range(8):
        item = Annotated(values.reshape(256, 256, 1), np.zeros((0, 4)), np.arange(0))
        augmentation(config, (256,), 256, 1, 16)(item, seed)
        assert item.image.dtype == dtype
        assert np.array_equal(np.sort(item.image.reshape(-1)), np.sort(values))
        none = np.zeros(0, np.int64)
        sample = Sample(item.image, 1, "", 0, (256, 256), np.zeros((0, 4), np.float32), none, none.astype(bool))
        tensor = collate([sample], 32).images
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor[0, 0].numpy(), item.image[:, :, 0].astype(np.float32))


def test_erasing() -> None:
    spec = ImageSpec(channels=1, bit_depth=16, mean=(0.5,), std=(0.5,))
    augment = Augmentation(DataConfig(size=(80, 60), augment=AugmentConfig(horizontal_flip=0, erase=1.0)), spec)
    shares = []
    for seed in range(300):
        image = np.ones((80, 60, 1), np.uint16)
        image.setflags(write=False)
        item = Annotated(image, np.zeros((0, 4)), np.arange(0))
        augment(item, seed)
        erased = item.image[:, :, 0] == 32768
        rows, columns = np.nonzero(erased)
        assert erased.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert (item.image[~erased] == 1).all()
        shares.append(erased.mean())
    assert 0.015 < min(shares) < 0.04
    assert 0.28 < max(shares) < 0.35
    never = Augmentation(DataConfig(size=(80, 60), augment=AugmentConfig(erase=0.0)), spec)
    item = Annotated(np.ones((80, 60, 1), np.uint16), np.zeros((0, 4)), np.arange(0))
    never(item, 0)
    assert (item.image == 1).all()


@pytest.mark.parametrize(
    ("fields", "dtype", "fill"),
    [
        ({"channels": 3}, np.uint8, [124, 116, 104]),
        ({"channels": 1, "bit_depth": 16, "high": 4095.0, "mean": (0.25,), "std": (0.5,)}, np.uint16, [1024]),
        ({"channels": 1, "bit_depth": 32, "low": -1000, "high": 1000, "mean": (0.1,), "std": (1,)}, np.float32, [-800]),
        ({"channels": 3, "bit_depth": 32, "windows": ((40, 400),), "mean": (0.5,) * 3}, np.float32, [40]),
        ({"channels": 1, "percentiles": (1, 99), "mean": (0.3,), "std": (1,)}, np.float32, [0.3]),
    ],
)
def test_what_is_left_without_content_becomes_zero_in_the_network(
    fields: dict[str, Any], dtype: Any, fill: list[float]
) -> None:
    spec = ImageSpec.model_validate(fields)
    config = AugmentConfig(horizontal_flip=0, rotate=45, crop=(90, 90), crop_padding=8, erase=1.0, gamma=(0.9, 1.1))
    item = Annotated(np.zeros((60, 60, len(fill)), dtype), np.zeros((0, 4)), np.arange(0))
    augment = Augmentation(DataConfig(size=(60, 60), augment=config.model_copy(update={"gamma": None})), spec)
    augment(item, 1)
    assert item.image.dtype == dtype
    np.testing.assert_allclose(item.image[-1, -1], fill, rtol=1e-6)
    assert (item.image == 0).any()
    Augmentation(DataConfig(size=(60, 60), augment=config), spec)(item, 1)  # with albumentations
    assert item.image.dtype == dtype
