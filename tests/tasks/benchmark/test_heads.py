"""All heads of a config in one pass beside a model for each."""

import json
from pathlib import Path

from tasks.config import Experiment


def test_a_joint_model_beside_single_ones(tiny_joint: Experiment, command, written, tmp_path: Path) -> None:
    tiny_joint.runner.precision = "auto"
    out = tmp_path / "heads.json"
    said = command(
        *("benchmark", "heads", "--config", written(tiny_joint), "--batch", "3", "--runs", "3", "--warmup", "1"),
        *("--no-memory", "--out", out),
    )
    assert said.code == 0, said.error
    (table,) = json.loads(out.read_text())["tables"]
    assert "predictions of 3 x 64 x 64" in table["title"]
    seconds = {row["name"]: min(row["runs"]) for row in table["rows"]}
    assert list(seconds) == ["all heads, one pass", "a model for each, in turn", "boxes", "masks"]
    assert all(len(row["runs"]) == 3 for row in table["rows"])
    # Each alone does less than both in turn.
    assert max(seconds["boxes"], seconds["masks"]) < seconds["a model for each, in turn"]


def test_mistakes(tiny: Experiment, command, written) -> None:
    assert "give one, such as --config" in command("benchmark", "heads").complaint
    assert (
        "has the heads boxes; expected two or more"
        in command("benchmark", "heads", "--config", written(tiny)).complaint
    )
    assert "--workload means nothing to heads" in command("benchmark", "heads", "--workload", "unet").complaint
