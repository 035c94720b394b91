"""Which descriptions of images are accepted, and what they say about stored values."""

import pytest
from pydantic import ValidationError

from backbones.errors import UserError
from tasks.config import Experiment
from tasks.image_spec import ImageSpec

WINDOWS = ((40.0, 400.0), (-600.0, 1500.0))


@pytest.mark.parametrize(
    ("spec", "black", "white", "stored_channels"),
    [
        (ImageSpec(), 0, 255, 3),
        (ImageSpec(bit_depth=16, low=10), 10, 65535, 3),
        (ImageSpec(bit_depth=32, low=-1000, high=1000), -1000, 1000, 3),
        (ImageSpec(channels=2, bit_depth=32, windows=WINDOWS, mean=(0, 0), std=(1, 1)), -1350, 240, 1),
        (ImageSpec(bit_depth=32, windows=WINDOWS[:1]), -160, 240, 1),
        (ImageSpec(bit_depth=16, percentiles=(0.5, 99.5)), 0, 1, 3),
    ],
)
def test_range(spec: ImageSpec, black: float, white: float, stored_channels: int) -> None:
    spec.require_complete()
    assert (spec.black, spec.white, spec.stored_channels) == (black, white, stored_channels)
    assert spec.stores_real_numbers == (spec.bit_depth == 32 or spec.percentiles is not None)
    assert ImageSpec.model_validate_json(spec.model_dump_json()) == spec


def test_json_written_before_there_were_windows() -> None:
    old = '{"channels": 3, "bit_depth": 8, "low": 0.0, "high": null, "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}'
    spec = ImageSpec.model_validate_json(old)
    spec.require_complete()
    assert spec == ImageSpec(mean=(0.5, 0.5, 0.5), std=(1, 1, 1))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"bit_depth": 12}, "bit_depth is 12; expected 8, 16, or 32"),
        ({"low": 300}, r"low 300\.0 is not below high 255\.0"),
        ({"windows": ((40, 0),)}, r"window 40\.0 0\.0 has no width"),
        ({"windows": ()}, "windows is empty"),
        ({"percentiles": (99, 1)}, "expected two that rise"),
        ({"percentiles": (-1, 99)}, "within 0 and 100"),
        ({"std": (1, 0, 1)}, "not positive"),
    ],
)
def test_values_that_make_no_sense(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        ImageSpec(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"mean": (0.5,)}, r"image\.mean has 1 values for 3 channels"),
        ({"windows": WINDOWS}, r"2 windows for 3 channels; .*set image\.channels to 2"),
        ({"windows": WINDOWS[:1], "high": 100}, "low and high as well as windows"),
        ({"windows": WINDOWS[:1], "percentiles": (1, 99)}, "windows as well as percentiles"),
        ({"bit_depth": 32}, r"give image\.high, image\.windows or image\.percentiles"),
        ({"bit_depth": 32, "low": -1000}, r"give image\.high"),
    ],
)
def test_fields_that_do_not_fit_each_other(fields: dict[str, object], complaint: str) -> None:
    spec = ImageSpec(**fields)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=complaint):
        spec.require_complete()


def test_fields_can_be_set_one_after_another() -> None:
    image = Experiment().image
    image.bit_depth = 32
    image.windows = WINDOWS
    image.channels = 2
    image.mean = (0.5, 0.5)
    image.std = (0.5, 0.5)
    image.require_complete()
