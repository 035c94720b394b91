"""Networks of timm's in whole runs: trained, evaluated, switched to, and refused in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config import Experiment
from tests.conftest import Command

Written = Callable[[Experiment], Path]


def test_a_run(command: Command, tiny_labels: Experiment, written: Written, tmp_path: Path) -> None:
    file = written(tiny_labels)
    words = (
        "--backbone.name",
        "timm/lcnet_050",
        "--backbone.options.drop_rate",
        "0.1",
        "--optimizer.layer_decay",
        "0.8",
    )
    said = command("train", file, *words, "--out", tmp_path / "run")
    assert said.code == 0, said.error
    assert "left out norm=gn, chosen for resnet18" in said.out
    assert command("evaluate", tmp_path / "run").code == 0
    said = command("predict", tmp_path / "run", tiny_labels.data.root.parent / "val", "--out", tmp_path / "found")
    assert said.code == 0, said.error


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--backbone.name", "timm/visformer_tiny", "--data.size", "448", "448"],
         "data.size: backbone timm/visformer_tiny takes images of 224 x 224 pixels only, not of 448"),
        (["--backbone.name", "timm/lcnet_05"], "is none of timm's"),
        (["--backbone.name", "timm/lcnet_050", "--backbone.options.wings", "2"], "'wings'; it takes timm/lcnet_050("),
    ],
)  # fmt: skip
def test_refusals_before_training(
    command: Command, tiny_labels: Experiment, written: Written, tmp_path: Path, arguments: list[str], line: str
) -> None:
    assert line in command("train", written(tiny_labels), *arguments, "--out", tmp_path / "run").complaint
    assert not (tmp_path / "run").exists()
