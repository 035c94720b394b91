"""Stored values become network input by the formulas of the documentation and of pydicom."""

import numpy as np
import pytest
import torch

from tasks.image_spec import ImageSpec
from tasks.normalisation import Normalisation

HU = ImageSpec(
    channels=3, bit_depth=32, windows=((40, 400), (-600, 1500), (80.5, 1)), mean=(0.3, 0.5, 0.1), std=(0.2, 0.3, 1)
)


@pytest.fixture
def values() -> torch.Tensor:
    """(2, 1, 40, 50) Hounsfield units, halves among them."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-2048, 6000, (2, 1, 40, 50), generator=generator).float() / 2


def test_windows_equal_pydicom(values: torch.Tensor) -> None:
    from pydicom.dataset import Dataset
    from pydicom.pixels import apply_windowing

    result = Normalisation(HU)(values)
    assert result.shape == (2, 3, 40, 50)
    assert result.dtype == torch.float32
    for channel, (centre, width) in enumerate(HU.windows or ()):
        header = Dataset()
        header.PhotometricInterpretation, header.BitsStored = "MONOCHROME2", 16
        header.PixelRepresentation, header.RescaleSlope, header.RescaleIntercept = 1, 1, 0
        header.WindowCenter, header.WindowWidth, header.VOILUTFunction = centre, width, "LINEAR_EXACT"
        # Theirs spans the range of the stored type.
        theirs = (apply_windowing(values.double().numpy()[:, 0], header) + 32768) / 65535
        expected = (theirs - HU.mean[channel]) / HU.std[channel]
        assert np.mean((theirs > 0) & (theirs < 1)) > 0 or width == 1
        np.testing.assert_allclose(result[:, channel].double().numpy(), expected, atol=1e-5)


def test_one_window_for_all_channels(values: torch.Tensor) -> None:
    spec = HU.model_copy(update={"windows": ((40.0, 400.0),)})
    spec.require_complete()
    assert spec.stored_channels == 1
    result = Normalisation(spec)(values)
    shown = ((values[:, 0] - -160) / 400).clamp(0, 1)
    for channel in range(3):
        torch.testing.assert_close(result[:, channel], (shown - spec.mean[channel]) / spec.std[channel])


def test_stored_values_are_not_changed(values: torch.Tensor) -> None:
    before = values.clone()
    Normalisation(HU)(values)
    Normalisation(ImageSpec(bit_depth=32, high=100))(values)
    assert torch.equal(values, before)


@pytest.mark.parametrize(
    "spec",
    [
        ImageSpec(channels=1, mean=(0.3,), std=(0.2,)),
        ImageSpec(channels=1, bit_depth=16, low=100, mean=(0.3,), std=(0.2,)),
        ImageSpec(channels=1, bit_depth=32, low=-1000, high=1000, mean=(0.3,), std=(0.2,)),
        ImageSpec(channels=1, percentiles=(1, 99), mean=(0.3,), std=(0.2,)),
        ImageSpec(channels=1, windows=((500, 300),), mean=(0.3,), std=(0.2,)),
    ],
)
def test_stored_mean_becomes_zero(spec: ImageSpec) -> None:
    stored = torch.tensor(spec.stored_mean).view(1, -1, 1, 1)
    assert Normalisation(spec)(stored).abs().item() < 1e-5


def test_all_sixteen_bit_levels_stay_apart() -> None:
    ramp = torch.arange(65536.0).view(1, 1, 256, 256)
    result = Normalisation(ImageSpec(channels=1, bit_depth=16, mean=(0.5,), std=(0.25,)))(ramp)
    assert len(result.unique()) == 65536


def test_nothing_is_saved() -> None:
    assert Normalisation(HU).state_dict() == {}
