"""Options of the wrong type, which a network would stumble over, or take for something else."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest

from backbones import UserError, build_backbone
from backbones.option_types import wrong_type


def plain(
    flag: bool = False,
    count: int = 1,
    rate: float = 0.0,
    size: int | None = None,
    unset: int = None,  # type: ignore[assignment]  # noqa: RUF013
    kind: Literal["a", "b"] | None = "a",
    many: tuple[int, ...] = (),
    anything: object = None,
) -> None:
    """Declares some of everything."""


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("flag", True, None),
        ("flag", "False", "flag is 'False'; give true or false"),
        ("flag", 1, "flag is 1; give true or false"),
        ("count", 2, None),
        ("count", 2.0, "count is 2.0; give a whole number"),
        ("count", True, "count is True; give a whole number"),
        ("rate", 1, None),
        ("rate", float("nan"), None),
        ("rate", "abc", "rate is 'abc'; give a number"),
        ("size", None, None),
        ("size", "16", "size is '16'; give a whole number or null"),
        ("unset", None, None),
        ("kind", "z", None),  # its choices are the factory's to tell
        ("kind", ["a"], "kind is ['a']; give a text or null"),
        ("many", [1, 2], None),
        ("anything", "x", None),
        ("unknown", "x", None),
    ],
)
@pytest.mark.parametrize("factory", [plain, partial(plain, count=3)])
def test_value(factory: Callable[..., object], option: str, value: object, problem: str | None) -> None:
    assert wrong_type(factory, {option: value}) == problem


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("resnet18", {"drop_path": "abc"}, "backbone 'resnet18': drop_path is 'abc'; give a number"),
        ("resnet18", {"antialias": "maybe"}, "backbone 'resnet18': antialias is 'maybe'; give true or false"),
        ("resnet18", {"frozen_stages": 2.0}, "frozen_stages is 2.0; give a whole number"),
        ("resnet18", {"in_channels": 2.5}, "in_channels is 2.5; give a whole number"),
        ("resnet18", {"name": "x"}, "backbone 'resnet18': got an unexpected keyword argument 'name'; it takes"),
        ("densenet121", {"drop_rate": "x"}, "drop_rate is 'x'; give a number"),
        ("highway18", {"gate_bias": "x"}, "gate_bias is 'x'; give a number or null"),
        ("timm/lcnet_050", {"frozen_stages": "2"}, "frozen_stages is '2'; give a whole number"),
        ("timm/lcnet_050", {"name": "x"}, "got an unexpected keyword argument 'name'; it takes timm/lcnet_050"),
    ],
)
def test_backbones_refuse_it(name: str, options: dict[str, object], line: str) -> None:
    with pytest.raises(UserError) as error:
        build_backbone(name, **options)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
