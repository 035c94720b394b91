"""Colour in one pass against torchvision's three."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.transforms.v2 import functional as F

from tasks.data.augmentation.colour import jitter_colour
from tasks.data.augmentation.operations import Span

KINDS = [(np.uint8, Span(0, 255), 1.01), (np.uint16, Span(0, 4095), 1.01), (np.float32, Span(-1000, 3000), 0.05)]
UNIT = ndimage.gaussian_filter(np.random.default_rng(0).uniform(0, 1, (40, 50, 3)), (3, 3, 0)).astype(np.float32)


@pytest.mark.parametrize(("dtype", "span", "tolerance"), KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_equals_torchvisions_one_after_another(dtype: Any, span: Span, tolerance: float, seed: int) -> None:
    image = span.from_unit(UNIT, dtype)
    before = image.copy()
    found = jitter_colour(image, 0.6, span, np.random.default_rng(seed))
    assert (found.shape, found.dtype) == (image.shape, image.dtype)
    np.testing.assert_array_equal(image, before)

    random = np.random.default_rng(seed)
    factors, order = random.uniform(0.7, 1.3, 3), random.permutation(3)
    expected = torch.from_numpy(span.to_unit(image)).permute(2, 0, 1).double()
    changes = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    for which in order.tolist():
        expected = changes[which](expected, float(factors[which]))
    assert expected.min() > 0  # torchvision cuts after each step, which this image never needs
    assert expected.max() < 1
    assert (expected - torch.from_numpy(UNIT).permute(2, 0, 1)).abs().max() > 0.02
    stored = expected.permute(1, 2, 0).numpy() * (span.white - span.black) + span.black
    # torchvision's grey has weights of one digit more.
    assert np.abs(found.astype(np.float64) - stored).max() < tolerance + 2e-4 * (span.white - span.black)


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_other_channels_are_scaled_alike(channels: int) -> None:
    image = Span(0, 255).from_unit(UNIT[:, :, :1].repeat(channels, 2), np.uint8)
    found = jitter_colour(image, 1.0, Span(0, 255), np.random.default_rng(0))
    assert (found == found[:, :, :1]).all()
    assert not np.array_equal(found, image)
    # One factor and one offset, up to rounding.
    slope, offset = np.polyfit(image[:, :, 0].ravel().astype(float), found[:, :, 0].ravel().astype(float), 1)
    assert np.abs(found[:, :, 0] - (slope * image[:, :, 0] + offset)).max() < 1.01


def test_what_passes_white_is_white() -> None:
    image = np.full((4, 4, 3), 250, np.uint8)
    found = [jitter_colour(image, 1.0, Span(0, 255), np.random.default_rng(seed)) for seed in range(10)]
    assert max(int(each.max()) for each in found) == 255
    assert min(int(each.min()) for each in found) > 100
