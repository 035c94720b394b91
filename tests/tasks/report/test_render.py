"""Names break where a reader would break them, and the command of a run can be typed again."""

import shlex

import pytest

from tasks.report.provenance import typed
from tasks.report.render import breakable


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("heads.boxes.roi_positive_fraction", ["heads.", "boxes.", "roi_", "positive_", "fraction"]),
        ("/data/resnet18.safetensors", ["/data/", "resnet18.", "safetensors"]),
        ("0.0003", ["0.0003"]),
        ("AP", ["AP"]),
        ("a<b>_c", ["a&lt;b&gt;_", "c"]),
    ],
)
def test_breakable(text: str, parts: list[str]) -> None:
    assert breakable(text).split("<wbr>") == parts


def test_a_command_can_be_typed_again() -> None:
    words = ["configs/x.py", "--data.root", "my data", "--data.size", "64", "64", "--runner.no-report"]
    told = typed(words)
    assert told.splitlines()[:2] == ["python tools/train.py configs/x.py \\", "    --data.root 'my data' \\"]
    assert shlex.split(told.replace("\\\n", "")) == ["python", "tools/train.py", *words]
