"""`scale_jitter` with a padded crop is large-scale jitter as torchvision has it (Ghiasi et al. 2021, section 3)."""

import numpy as np
import torch
from scipy.stats import ks_2samp, kstest
from torchvision.transforms import v2

from heads.contract import IGNORED
from tasks.config import AugmentConfig, DataConfig
from tasks.data.augmentation.augment import Augmentation
from tasks.data.augmentation.geometry import Annotated, boxes_of, clip
from tasks.image_spec import ImageSpec

SIDE, WIDE, SIZE = 128, (0.1, 2.0), (60, 100)
CONFIG = DataConfig(
    short_side=(SIDE,),
    long_side=SIDE,
    augment=AugmentConfig(horizontal_flip=0, scale_jitter=WIDE, crop=(SIDE, SIDE)),
)
SPEC = ImageSpec(mean=(7 / 255,) * 3)


def jittered(seed: int) -> tuple[Annotated, tuple[int, int]]:
    """An image that shows the place of each of its pixels, and what it was resized to."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.stack([50 + 2 * x, 50 + 2 * y, 255 + 0 * x], 2).astype(np.uint8)
    outlines = np.zeros((1, *SIZE), np.uint8)
    outlines[0, 20:50, 30:90] = 1
    item = Annotated(image, boxes_of(outlines), np.arange(1), outlines, outlines.transpose(1, 2, 0).copy())
    augment = Augmentation(CONFIG, SPEC)
    size = augment.needed(SIZE, seed)
    assert size is not None
    augment(item, seed)
    clip(item)
    return item, size


def test_sizes_are_those_of_torchvision() -> None:
    theirs = v2.ScaleJitter((SIDE, SIDE), WIDE)
    torch.manual_seed(0)
    image = torch.zeros(3, *SIZE)
    drawn = np.array([theirs.make_params([image])["size"] for _ in range(1000)])
    ours = np.array([jittered(seed)[1] for seed in range(1000)])
    spread = np.linspace(0, 1, 1000)  # within a pixel, so that few sizes are equal
    for axis in (0, 1):
        # Theirs are rounded down, ours to the nearest.
        assert ks_2samp(ours[:, axis] - 0.5 + spread, drawn[:, axis] + spread).pvalue > 1e-3
    np.testing.assert_allclose(ours[:, 0] / ours[:, 1], SIZE[0] / SIZE[1], atol=0.06)
    scale = ours[:, 1] / SIDE
    assert kstest((scale - WIDE[0]) / (WIDE[1] - WIDE[0]), "uniform").pvalue > 1e-3


def test_what_is_small_is_padded_and_what_is_large_is_cut_anywhere() -> None:
    shares = []
    for seed in range(400):
        item, (height, width) = jittered(seed)
        assert item.size == (SIDE, SIDE)
        assert item.masks is not None
        assert item.outlines is not None
        shown = item.masks[:, :, 0] != IGNORED
        expected = np.zeros((SIDE, SIDE), bool)
        expected[:height, :width] = True  # an image that is too small lies in the corner
        np.testing.assert_array_equal(shown, expected)
        assert (item.image[~shown] == 7).all()
        assert (item.image[shown][:, 2] == 255).all()
        if len(item.rows):
            assert np.abs(boxes_of(item.outlines) - item.boxes).max() <= 1
        room = width - SIDE
        if room > 30:
            left = (item.image[0, 0, 0].astype(float) - 50) / 2 * width / SIZE[1]
            shares.append(left / room)
    assert len(shares) > 100
    assert kstest(np.clip(shares, 0, 1), "uniform").pvalue > 1e-3
