"""Commands by the clock."""

import json
from pathlib import Path

import pytest

from tasks.benchmark.startup import FIRST_STEP, HELP


def test_help_is_timed(command) -> None:
    said = command("benchmark", "startup", "--only", HELP, "--runs", "1", "--warmup", "0")
    assert said.code == 0, said.error
    assert "< 1 s" in said.out


@pytest.mark.slow
def test_first_step_is_waited_for(command, tmp_path: Path) -> None:
    out = tmp_path / "startup.json"
    said = command("benchmark", "startup", "--only", HELP, FIRST_STEP, "--runs", "1", "--warmup", "0", "--out", out)
    assert said.code == 0, said.error
    (table,) = json.loads(out.read_text())["tables"]
    help_row, step = table["rows"]
    assert (help_row["name"], step["name"]) == (HELP, FIRST_STEP)
    assert help_row["seconds"] < step["seconds"] < 120
    assert step["target"] == 10
    assert "generated blood cells" in said.out


@pytest.mark.slow
def test_a_run_that_fails_is_told(command, tmp_path: Path) -> None:
    said = command("benchmark", "startup", "--only", FIRST_STEP, "--runs", "1", "--warmup", "0", "--root", tmp_path)
    assert "did not come to its first step: error:" in said.complaint
