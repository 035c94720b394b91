"""Who takes part, by library and by name."""

import pytest

from backbones import UserError
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.benchmark.choice import choose
from tasks.benchmark.models import workloads_of

LIBRARIES = {"polyhead": "polyhead", "polyhead fp32": "polyhead", "a default": "a", "b default": "b", "b bf16": "b"}


@pytest.mark.parametrize(
    ("peers", "only", "expected"),
    [
        ((), (), list(LIBRARIES)),
        (("b",), (), ["polyhead", "polyhead fp32", "b default", "b bf16"]),
        (("polyhead",), (), ["polyhead", "polyhead fp32"]),
        ((), ("b bf16", "polyhead"), ["polyhead", "b bf16"]),
        (("b",), ("b default",), ["b default"]),
    ],
)
def test_ours_and_the_libraries_that_are_named(peers, only, expected: list[str]) -> None:
    assert choose(LIBRARIES, peers, only) == expected


def test_strangers_are_told() -> None:
    with pytest.raises(UserError, match="'c' takes no part; expected some of 'a', 'b'"):
        choose(LIBRARIES, ("c",), ())
    with pytest.raises(UserError, match=r"'a default' is no contestant; expected some of .*'b bf16'"):
        choose(LIBRARIES, ("b",), ("a default",))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["detection"]),
        ({"peer": ("smp",)}, ["unet", "deeplabv3plus"]),
        ({"peer": ("torchvision", "timm")}, ["detection", "classification", "cifar"]),
        ({"peer": ("polyhead",)}, ["detection"]),
        ({"peer": ("smp",), "workload": "unet"}, ["unet"]),
    ],
)
def test_a_library_brings_its_workloads(options, expected: list[str]) -> None:
    assert workloads_of(BenchmarkArguments("train", **options)) == expected
