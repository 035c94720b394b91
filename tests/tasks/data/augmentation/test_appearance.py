"""Colour, gamma, blur and noise have the strength that the config says, at every depth."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from tasks.config import AugmentConfig
from tasks.data.augmentation.appearance import Appearance
from tasks.data.augmentation.operations import Span

KINDS = [(np.uint8, Span(0, 255)), (np.uint16, Span(0, 4095)), (np.float32, Span(-1000, 3000))]
UNIT = ndimage.gaussian_filter(np.random.default_rng(0).uniform(0, 1, (40, 50, 3)), (3, 3, 0)).astype(np.float32)


def changed(fields: dict[str, Any], dtype: Any, span: Span, seed: int, channels: int = 3) -> npt.NDArray[np.float32]:
    image = span.from_unit(UNIT[:, :, :1].repeat(channels, 2), dtype)
    before = image.copy()
    out = Appearance(AugmentConfig.model_validate(fields), span)(image, seed)
    assert (out.shape, out.dtype) == (image.shape, image.dtype)
    np.testing.assert_array_equal(image, before)
    return span.to_unit(out)


@pytest.mark.parametrize(("dtype", "span"), KINDS)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_only_the_seed_decides(dtype: Any, span: Span, channels: int) -> None:
    fields = {"colour": 0.5, "gamma": (0.7, 1.5), "blur": 2.0, "noise": 0.05}
    first, again, other = (changed(fields, dtype, span, seed, channels) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("dtype", "span"), KINDS)
def test_gamma(dtype: Any, span: Span) -> None:
    exponents = []
    for seed in range(40):
        out = changed({"gamma": (0.5, 2.0)}, dtype, span, seed, 1)
        exponent = float(np.median(np.log(out) / np.log(UNIT[:, :, :1])))
        assert np.abs(out - UNIT[:, :, :1] ** exponent).max() < 0.02
        exponents.append(exponent)
    assert 0.48 < min(exponents) < 0.7
    assert 1.7 < max(exponents) < 2.05


@pytest.mark.parametrize(("dtype", "span"), KINDS)
def test_noise(dtype: Any, span: Span) -> None:
    plain = UNIT[:, :, :1]
    spreads = [float((changed({"noise": 0.1}, dtype, span, seed, 1) - plain).std()) for seed in range(40)]
    assert min(spreads) < 0.03
    assert 0.08 < max(spreads) < 0.11


@pytest.mark.parametrize(("dtype", "span"), KINDS)
def test_blur(dtype: Any, span: Span) -> None:
    spreads = [float(changed({"blur": 4.0}, dtype, span, seed, 1).std()) for seed in range(20)]
    strongest = ndimage.gaussian_filter(UNIT[:, :, 0], 4.0).std()
    assert max(spreads) <= UNIT[:, :, 0].std() * 1.02
    assert strongest * 0.9 < min(spreads) < UNIT[:, :, 0].std() * 0.8
