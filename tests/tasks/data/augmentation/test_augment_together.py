"""Image, mask, outlines and boxes stay together under every change of geometry, in random combinations."""

from typing import Any

import cv2
import numpy as np

from heads.contract import IGNORED
from tasks.config import AugmentConfig, DataConfig
from tasks.data.augmentation.augment import Augmentation
from tasks.data.augmentation.copy_paste import bring_to_size, choose_objects, copy_paste
from tasks.data.augmentation.geometry import Annotated, boxes_of, clip
from tasks.data.augmentation.mosaic import IMAGES, mosaic
from tasks.image_spec import ImageSpec

MOVES: list[dict[str, Any]] = [
    {"rotate": 180.0},
    {"rotate": 20.0, "shear": 15.0},
    {"elastic": 0.03},
    {"rotate": 10.0, "elastic": 0.02, "shear": 5.0},
    {"random_resized_crop": (0.2, 1.0)},
    {"random_resized_crop": (0.3, 1.0), "rotate": 30.0},
    {"crop": (50, 60), "crop_padding": 12},
    {"scale_jitter": (0.5, 2.0), "crop": (64, 48), "rotate": 15.0},
    {"quarter_turns": True},
    {"policy": "trivial_augment"},
    {"policy": "rand_augment", "policy_operations": 3, "policy_magnitude": 20},
]


def moving(random: np.random.Generator) -> DataConfig:
    """A config with one of the moves, flips by chance, and a size that the images are resized to or not."""
    fields = dict(MOVES[int(random.integers(len(MOVES)))])
    for name in ("horizontal_flip", "vertical_flip"):
        fields[name] = float(random.integers(2)) / 2
    if random.random() < 0.3:
        fields["quarter_turns"] = True
    side = int(random.integers(40, 120))
    size = (side, 64) if random.random() < 0.5 or "random_resized_crop" in fields else None
    return DataConfig(
        augment=AugmentConfig(**fields),
        short_side=(side,),
        long_side=200,
        size=size,
        antialias=bool(random.integers(2)),
    )


def blobs(random: np.random.Generator) -> Annotated:
    """Convex objects, each in its own part of the image so that a mask can hold all of them."""
    height, width = (int(v) for v in random.integers(60, 130, 2))
    outlines = np.zeros((4, height, width), np.uint8)
    for k, outline in enumerate(outlines):
        middle = (width * (1 + 2 * (k % 2)) / 4, height * (1 + 2 * (k // 2)) / 4)
        points = middle + random.uniform(-0.2, 0.2, (5, 2)) * (width, height)
        cv2.fillConvexPoly(outline, cv2.convexHull(points.astype(np.int32)), 1)
        # No tip is so thin that a smaller image has no pixel for it.
        cv2.dilate(outline, np.ones((5, 5)), dst=outline)
    masks = (outlines * np.arange(1, 5, dtype=np.uint8)[:, None, None]).sum(axis=0, dtype=np.uint8)[:, :, None]
    image = np.repeat((masks > 0) * np.uint8(200), 3, 2)
    return Annotated(image, boxes_of(outlines), np.arange(4), outlines, masks)


def test_500_random_cases_keep_everything_together() -> None:
    """The image shows its own mask, the mask its outlines, and each box is the box of its outline within a pixel."""
    random = np.random.default_rng(0)
    objects = known = ignored = wrong = edge = 0
    for case in range(500):
        item, config = blobs(random), moving(random)
        augment = Augmentation(config, ImageSpec(mean=(1.0,) * 3, std=(1.0,) * 3))
        # The image shows the mask by its colours, so where an operation changes them they are not compared.
        recolours = config.augment.policy != "none" and moves_only(item, config, case) is None
        augment(item, case)
        clip(item)
        assert item.outlines is not None
        assert item.masks is not None
        assert item.outlines.shape == (len(item.rows), *item.size)
        assert item.masks.shape[:2] == item.size
        assert np.abs(boxes_of(item.outlines) - item.boxes).max(initial=0) <= 1, config
        assert ((item.boxes[:, 2:] - item.boxes[:, :2]) >= 0.5).all()
        objects += len(item.rows)
        mask = item.masks[:, :, 0]
        for row, outline in zip(item.rows, item.outlines, strict=True):
            np.testing.assert_array_equal((mask == row + 1)[mask != IGNORED], outline[mask != IGNORED] > 0)
        lost = set(range(4)) - set(item.rows.tolist())
        for row in lost:  # a sliver at most
            assert min(np.ptp(np.nonzero(mask == row + 1), axis=1) + 1 if (mask == row + 1).any() else (0, 0)) <= 1
        if recolours:
            continue
        outside = cv2.erode((mask == IGNORED).astype(np.uint8), np.ones((5, 5)), borderValue=1) > 0
        assert (item.image[outside] == 255).all()
        inside = cv2.dilate((mask == IGNORED).astype(np.uint8), np.ones((5, 5)), borderValue=0) == 0
        bright, drawn = item.image[:, :, 0] > 100, (mask > 0).astype(np.uint8)
        ignored, known = ignored + int(outside.sum()), known + int(inside.sum())
        wrong += int((bright != drawn)[inside].sum())
        edge += int((cv2.dilate(drawn, np.ones((3, 3))) != drawn)[inside].sum())
    assert objects > 1500
    assert known > 1_000_000
    assert ignored > 100_000
    # Half a pixel to one side would make a third of the pixels along the edges wrong.
    assert wrong < 0.12 * edge


def moves_only(item: Annotated, config: DataConfig, seed: int) -> bool | None:
    """None when the policy drew an operation that changes colours: it then changes a picture that nothing can move."""
    spec = ImageSpec(mean=(1.0,) * 3, std=(1.0,) * 3)
    probe = np.random.default_rng(0).integers(1, 254, (16, 16, 3)).astype(np.uint8)
    drawn: list[str] = []
    augment = Augmentation(config, spec)
    assert augment._policy is not None
    augment._policy.apply = lambda item, name, magnitude, negative: drawn.append(name)  # type: ignore[method-assign]
    augment(Annotated(probe, np.zeros((0, 4)), np.arange(0)), seed)
    still = {"identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"}
    return True if set(drawn) <= still else None


def test_200_random_images_that_are_joined_stay_together() -> None:
    """Mosaic, copy-paste and both, of images that were moved before."""
    random = np.random.default_rng(1)
    fill = np.ones(3)
    objects = wrong = edge = pasted = 0
    for case in range(200):
        parts = []
        for number in range(IMAGES + 1):
            item, config = blobs(random), moving(random)
            config.augment.policy = "none"
            assert item.masks is not None
            item.masks[item.masks > 0] += np.uint8(4 * number)
            item.rows = item.rows + 4 * number
            Augmentation(config, ImageSpec(mean=(1 / 255,) * 3, std=(1.0,) * 3))(item, case)
            clip(item)
            parts.append(item)
        *parts, upon = parts
        item = mosaic(parts, (0.4, 1.6), fill, bool(case % 2), random) if case % 3 else parts[0]
        clip(item)
        if case % 4:
            bring_to_size(upon, item.size, fill, random)
            chosen = choose_objects(random.random(len(upon.rows)) < 0.8, random)
            item, pasted = copy_paste(item, upon, chosen), pasted + len(chosen)
            clip(item)
        assert item.outlines is not None
        assert item.masks is not None
        assert item.outlines.shape == (len(item.rows), *item.size)
        assert np.abs(boxes_of(item.outlines) - item.boxes).max(initial=0) <= 1
        objects += len(item.rows)
        mask = item.masks[:, :, 0]
        for row, outline in zip(item.rows, item.outlines, strict=True):
            np.testing.assert_array_equal((mask == row + 1)[mask != IGNORED], outline[mask != IGNORED] > 0)
        inside = cv2.dilate((mask == IGNORED).astype(np.uint8), np.ones((5, 5)), borderValue=0) == 0
        bright, drawn = item.image[:, :, 0] > 100, (mask > 0).astype(np.uint8)
        wrong += int((bright != drawn)[inside].sum())
        edge += int((cv2.dilate(drawn, np.ones((3, 3))) != drawn)[inside].sum())
    assert objects > 1000
    assert pasted > 200
    # Resized twice, to the nearest pixel each time; see above.
    assert wrong < 0.18 * edge
