"""The label says what the image shows: shares are recovered from the pixels."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, kstest

from tasks.config import AugmentConfig
from tasks.data.augmentation.mixing import cutmix, mix, mixes, mixup

TYPES = [(np.uint8, 250), (np.uint16, 65000), (np.float32, 3000)]


def pair(dtype: Any, white: float, channels: int = 3) -> tuple[Any, Any]:
    """A white image and a black one of another size."""
    return np.full((40, 60, channels), white, dtype), np.zeros((25, 90, channels), dtype)


@pytest.mark.parametrize(("dtype", "white"), TYPES)
@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("config", [AugmentConfig(mixup=0.4), AugmentConfig(cutmix=1.0)])
def test_the_share_is_what_is_seen(dtype: Any, white: float, channels: int, config: AugmentConfig) -> None:
    for seed in range(30):
        image, other = pair(dtype, white, channels)
        mixed, share = mix(image, other, config, np.random.default_rng(seed))
        assert (mixed.shape, mixed.dtype) == (image.shape, dtype)
        assert (image == white).all()
        seen = mixed.mean(dtype=np.float64) / white
        assert seen == pytest.approx(share, abs=0.6 / white if config.mixup else 1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_draws_from_a_beta_distribution(alpha: float) -> None:
    config = AugmentConfig(mixup=alpha)
    shares = [mix(*pair(np.float32, 1), config, np.random.default_rng(seed))[1] for seed in range(800)]
    assert kstest(shares, beta(alpha, alpha).cdf).pvalue > 1e-3


def test_mixup_rounds() -> None:
    ten, twenty = np.full((2, 2, 1), 10, np.uint8), np.full((2, 2, 1), 20, np.uint8)
    assert (mixup(ten, twenty, 0.74) == 13).all()
    assert (mixup(ten, twenty, 0.76) == 12).all()
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    np.testing.assert_array_equal(mixup(deep, deep, 0.3), deep)


def test_a_cut_rectangle_has_its_area() -> None:
    image, other = np.zeros((200, 300, 1), np.uint8), np.ones((200, 300, 1), np.uint8)
    whole = 0
    for seed in range(200):
        mixed, share = cutmix(image, other, 0.75, np.random.default_rng(seed))
        rows, columns = np.nonzero(mixed[:, :, 0])
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert mixed.sum() == height * width == round((1 - share) * 60000)
        assert height <= 100
        assert width <= 150
        whole += (height, width) == (100, 150)
        if rows.min() > 0 and rows.max() < 199 and columns.min() > 0 and columns.max() < 299:
            assert (height, width) == (100, 150)
    assert 30 < whole < 80  # a quarter: both sides are half as long, and the middle lies anywhere


def test_both_kinds_are_taken_in_turn() -> None:
    config = AugmentConfig(mixup=1.0, cutmix=1.0)
    pasted = 0
    for seed in range(400):
        mixed, _ = mix(*pair(np.float32, 1), config, np.random.default_rng(seed))
        pasted += set(np.unique(mixed).tolist()) <= {0.0, 1.0}
    assert 160 < pasted < 240


def test_when_images_are_mixed() -> None:
    assert not mixes(AugmentConfig())
    assert mixes(AugmentConfig(mixup=0.1))
    assert mixes(AugmentConfig(cutmix=0.1))
    assert not mixes(AugmentConfig(cutmix=0.1, mix_probability=0))
