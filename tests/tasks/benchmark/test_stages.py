"""Where the time of a step goes: clocks that count once, change nothing, and are taken away."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.benchmark import stages
from tasks.benchmark.ours import Ours, from_config
from tasks.benchmark.stages import StageClock, clocked, in_order
from tasks.data.sample import Batch

ALWAYS = {"data transfer", "normalise", "backbone", "losses", "backward", "checks of losses", "optimizer"}
OWN = {
    "tiny": {"neck", "RPN head", "proposals", "matching, sampling", "RoIAlign", "box head"},
    "tiny_instances": {"neck", "RPN head", "proposals", "matching, sampling", "RoIAlign", "box head", "mask head"},
    "tiny_masks": {"decoder", "logits"},
    "tiny_labels": {"pooling", "logits"},
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> tuple[StageClock, list[float]]:
    """A clock, and the time in a list, to be set."""
    now = [0.0]
    monkeypatch.setattr(stages.time, "perf_counter", lambda: now[0])
    return StageClock(), now


def test_a_stage_inside_of_another_counts_for_itself(clock) -> None:
    clock, now = clock
    with clock.stage("outer"):
        now[0] += 1
        with clock.stage("inner"):
            now[0] += 10
            with clock.stage("outer"):
                now[0] += 100
        now[0] += 1000
    now[0] += 5  # of nobody
    assert clock.take() == {"outer": 1101, "inner": 10}
    assert clock.take() == {}


def test_what_the_backward_pass_computes_again_is_its_own(clock) -> None:
    clock, now = clock
    with clock.stage("backward"), clock.stage("backbone"):
        now[0] += 1
    with clock.stage("backbone"):
        now[0] += 2
    assert clock.take() == {"backward": 1, "backbone": 2}


def test_stages_are_told_in_order() -> None:
    assert in_order(["optimizer", "losses", "mask head", "backbone"]) == [
        "backbone",
        "mask head",
        "losses",
        "optimizer",
    ]


@pytest.mark.parametrize(("module", "name"), list(stages.FUNCTIONS))
def test_named_functions_exist(module: str, name: str) -> None:
    assert callable(getattr(import_module(module), name))


def build(config: Any, folder: Path) -> Ours:
    folder.mkdir()
    (folder / "config.json").write_text(config.model_dump_json())
    return from_config(folder / "config.json", None, 3, folder, lambda experiment: None)


@pytest.mark.parametrize("name", list(OWN))
def test_stages_of_a_step_and_of_predictions(
    name: str, request: pytest.FixtureRequest, command, tmp_path: Path
) -> None:
    config = request.getfixturevalue(name)
    ours, plain = (build(config, tmp_path / folder) for folder in ("clocked", "plain"))
    assert len(ours.batch) == 3, "the largest batch of two, repeated"
    before = Batch.to
    with clocked(ours.runner) as clock, clock.stage("rest"):
        ours.train()
    seconds = clock.take()
    assert seconds.keys() == ALWAYS | OWN[name] | {"rest"}
    assert all(second > 0 for second in seconds.values())
    with clocked(ours.runner) as clock, clock.stage("rest"):
        ours.infer()
    expected = {"data transfer", "normalise", "backbone", "predictions", "rest"}
    assert clock.take().keys() == expected | OWN[name] - {"matching, sampling"}

    assert Batch.to is before
    assert not any("forward" in vars(module) for module in ours.runner.stepper.bare.modules())
    plain.train()
    for own, other in zip(ours.runner.stepper.bare.parameters(), plain.runner.stepper.bare.parameters(), strict=True):
        assert torch.equal(own, other), "a clock changes nothing"


def test_profile_tells_stages_and_operators(command, tiny_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    said = command("benchmark", "profile", "--config", tiny_config, "--runs", "2", "--warmup", "1", "--out", out)
    assert said.code == 0, said.error
    written = json.loads(out.read_text())["tables"]
    assert [table["title"].rsplit(": ", 1)[1] for table in written] == [
        *("stages of a training step", "operators of a training step"),
        *("stages of predictions", "operators of predictions"),
    ]
    step, operators = written[:2]
    *parts, whole = step["rows"]
    for run in range(2):
        assert sum(part["runs"][run] for part in parts) == pytest.approx(whole["runs"][run])
    assert whole["share"] == 1
    assert {"RoIAlign", "backward"} <= {part["name"] for part in parts}
    names = [row["name"] for row in operators["rows"]]
    assert "aten::convolution_backward" in names
    assert all(row["count"] >= 1 for row in operators["rows"])
    shares = [row["share"] for row in operators["rows"]]
    assert shares == sorted(shares, reverse=True)
