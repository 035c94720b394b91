"""What an exported file sees is what the network sees in evaluation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones import UserError
from tasks.config import DataConfig
from tasks.predicting import batch_of
from tasks.prediction.preparing import averaging_weights, pad_batch, prepare

CONFIGS = {
    "detector": DataConfig(short_side=(90,), long_side=150),
    "averaged": DataConfig(short_side=(40,), long_side=150, antialias=True),
    "classifier": DataConfig(size=(48, 64), center_crop=(40, 70)),
    "enlarged": DataConfig(size=(300, 32)),
}


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_as_in_evaluation(name: str, dtype: type, channels: int) -> None:
    random, data = np.random.default_rng(0), CONFIGS[name]
    images = []
    for size in ((120, 97), (60, 200)):
        image = random.random((*size, channels)) * (1 if dtype is np.float32 else 255 if dtype is np.uint8 else 65535)
        images.append(image.astype(dtype))
    expected = batch_of(images, data, 32)
    batch, sizes = pad_batch([prepare(image, data) for image in images], 32)
    assert batch.dtype == expected.images.numpy().dtype
    assert sizes.tolist() == expected.sizes.valid.tolist()
    apart = np.abs(batch.astype(np.float64) - expected.images.numpy())
    # Only where integers are averaged may rounding fall on the other side.
    assert apart.max() <= {np.uint8: 1, np.uint16: 1, np.float32: 1e-5}[dtype]
    assert (apart > 1e-5).mean() < 0.05


@settings(max_examples=30)
@given(st.integers(1, 200), st.integers(1, 200))
def test_weights_are_averages(before: int, after: int) -> None:
    weights = averaging_weights(before, after)
    assert weights.shape == (after, before)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (weights >= 0).all()


def test_padded_to_a_fixed_size() -> None:
    images = [np.ones((20, 30, 3), np.uint8), np.ones((10, 8, 3), np.uint8)]
    batch, sizes = pad_batch(images, 32, (64, 96))
    assert batch.shape == (2, 3, 64, 96)
    assert sizes.tolist() == [[20, 30], [10, 8]]
    assert batch.sum(axis=(1, 2, 3)).tolist() == [3 * 600, 3 * 80]
    with pytest.raises(UserError, match=r"30 x 20 pixels .* at most 16 x 16: export it with --size 20 30"):
        pad_batch(images, 32, (16, 16))
