"""What the options of a run do, on runs of a few steps."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from backbones import UserError
from tasks import runner as module
from tasks.checkpoint import load_checkpoint
from tasks.config import Experiment
from tasks.device import build_accelerator
from tasks.evaluation import Evaluator
from tasks.run_folder import RunFolder


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def steps(run: Path) -> list[int]:
    return sorted(int(folder.name[5:]) for folder in (run / "checkpoints").glob("step_*"))


def evaluations(run: Path) -> list[int]:
    return [line["step"] for line in lines(run) if "metrics" in line]


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The AP of each evaluation to come, planted; real evaluations give the other numbers."""
    planted: list[float] = []
    real = Evaluator.evaluate

    def evaluate(self: Evaluator, *arguments: Any, **keywords: Any) -> dict[str, float]:
        metrics = real(self, *arguments, **keywords)
        return {**metrics, "boxes/AP": planted.pop(0)}

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    return planted


@pytest.mark.slow
def test_evaluate_every_and_the_last(command, tiny_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--data.batch_size", "10", "--schedule.epochs", "5", "--runner.evaluate_every", "2"]
    assert command("train", tiny_config, "--out", run, *arguments).code == 0
    assert evaluations(run) == [2, 4, 5]


@pytest.mark.slow
def test_early_stopping_and_what_is_kept(command, scores: list[float], tiny_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    scores += [0.1, 0.3, 0.2, 0.3, 0.25, 0.9]
    arguments = ["--data.batch_size", "10", "--schedule.epochs", "9", "--runner.early_stopping", "3"]
    said = command("train", tiny_config, "--out", run, *arguments, "--runner.keep_last", "1")
    assert said.code == 0, said.error
    assert "boxes/AP has not become better for 3 evaluations" in said.out
    assert evaluations(run) == [1, 2, 3, 4, 5]
    assert steps(run) == [2, 5]
    best = json.loads((run / "checkpoints" / "best.json").read_text())
    assert best == {"checkpoint": "step_00000002", "metric": "boxes/AP", "value": 0.3}
    # Resumed, it stays stopped.
    assert command("train", "--resume", run).code == 0
    assert evaluations(run) == [1, 2, 3, 4, 5]


def test_monitor_names_the_best(command, scores: list[float], tiny_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    scores += [0.1, 0.2]
    arguments = ["--data.batch_size", "10", "--schedule.epochs", "2", "--runner.monitor", "boxes/AP/white_cell"]
    assert command("train", tiny_config, "--out", run, *arguments).code == 0
    best = json.loads((run / "checkpoints" / "best.json").read_text())
    assert best["metric"] == "boxes/AP/white_cell"
    expected = max(line["metrics"]["boxes/AP/white_cell"] for line in lines(run) if "metrics" in line)
    assert best["value"] == expected


def test_known_metrics_are_those_measured(trained: Path, command) -> None:
    complaint = command("train", "--resume", trained, "--runner.monitor", "nonsense").complaint
    known = complaint.split("one of the metrics ")[1].split(", ")
    assert known == list(next(line["metrics"] for line in lines(trained) if "metrics" in line))


def test_save_every_steps(command, tiny_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--runner.save_every_steps", "2", "--runner.keep_last", "9"]
    assert command("train", tiny_config, "--out", run, *arguments).code == 0
    assert steps(run) == [2, 4, 5]


def test_a_run_counted_in_steps(command, tiny_labels: Experiment, written, tmp_path: Path) -> None:
    """It ends within its second epoch; resumed with more steps, it ends as one that was as long from the beginning."""
    tiny_labels.optimizer.name = "lamb"
    tiny_labels.schedule.steps, tiny_labels.schedule.milestones = 7, (3, 6)
    tiny_labels.schedule.warmup_steps, tiny_labels.schedule.warmup_factor = 2, 0.1
    config, run, whole = written(tiny_labels), tmp_path / "run", tmp_path / "whole"
    said = command("train", config, "--out", run)
    assert said.code == 0, said.error
    assert "7 steps; everything" in said.out
    assert [words for words in ("step 5/7: labels/", "step 7/7: labels/") if words not in said.out] == []
    assert [(line["step"], line["epoch"]) for line in lines(run) if "metrics" in line] == [(5, 1), (7, 2)]
    rates = [line["lr"] for line in lines(run) if "losses" in line]
    assert rates == pytest.approx([3e-4 * factor for factor in (0.1, 0.1, 1, 0.1, 0.1, 0.1, 0.01)], rel=1e-9)
    assert command("train", "--resume", run).code == 0
    assert evaluations(run) == [5, 7], "there was nothing left to do"
    assert command("train", "--resume", run, "--schedule.steps", "9").code == 0
    assert command("train", config, "--out", whole, "--schedule.steps", "9").code == 0
    assert (evaluations(run), evaluations(whole)) == ([5, 7, 9], [5, 9])
    for part in ("model", "optimizer"):
        found, expected = (load_checkpoint(path, prefer_best=False).tensors(part) for path in (run, whole))
        assert found.keys() == expected.keys()
        assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.mark.slow
def test_accumulated_passes_equal_one(command, tiny: Experiment, tmp_path: Path) -> None:
    """With as many samples drawn in every image the mean over passes is the mean over all."""
    tiny.heads["boxes"].roi_samples = tiny.heads["boxes"].rpn_samples = 8  # type: ignore[union-attr]
    tiny.heads["boxes"].rpn_nms_iou = 1.0  # type: ignore[union-attr]  # never a shortage of proposals
    tiny.optimizer.lr, tiny.data.batch_size = 0.005, 4
    (tmp_path / "config.json").write_text(tiny.model_dump_json())
    for passes in (1, 2, 4):
        said = command(
            "train", tmp_path / "config.json", "--out", tmp_path / str(passes), "--runner.accumulate", str(passes)
        )
        assert said.code == 0, said.error
    for passes in (2, 4):
        for line, other in zip(lines(tmp_path / "1"), lines(tmp_path / str(passes)), strict=True):
            if "losses" in line:
                assert other["losses"] == pytest.approx(line["losses"], rel=1e-5, abs=1e-7)
        one, many = (
            load_file(tmp_path / str(n) / "checkpoints" / "step_00000002" / "model.safetensors") for n in (1, passes)
        )
        for name in one:
            np.testing.assert_allclose(many[name], one[name], rtol=0, atol=5e-6, err_msg=name)


def test_fp16_goes_on_from_another_precision(
    command, monkeypatch: pytest.MonkeyPatch, tiny_labels: Experiment, written, tmp_path: Path
) -> None:
    """As where a run moves to a GPU without bf16: there is no state of a gradient scaler yet."""
    said = command("train", written(tiny_labels), "--out", tmp_path / "run")
    assert said.code == 0, said.error

    def scaled(*arguments: Any, **options: Any) -> Any:
        accelerator = build_accelerator(*arguments, **options)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        return accelerator

    monkeypatch.setattr("tasks.training.build_accelerator", scaled)
    for epochs in ("2", "3"):
        said = command("train", "--resume", tmp_path / "run", "--schedule.epochs", epochs)
        assert said.code == 0, said.error
    state = json.loads((tmp_path / "run" / "checkpoints" / "step_00000015" / "state.json").read_text())
    assert state["scaler"]["scale"] == 256
    assert state["scaler"]["_growth_tracker"] == 10


def test_batch_without_a_label(command, tiny_labels: Experiment, copied_data: Path, written, tmp_path: Path) -> None:
    """Of ten images six have a label; each is alone in its batch, and those without add nothing."""
    rows = [line.split(",") for line in (copied_data / "image_labels.csv").read_text().split()]
    rows = [row for row in rows if row[0].startswith("train/")]
    table = [f"{file},{label if number < 6 else ''}" for number, (file, _, label, *_) in enumerate(rows)]
    (copied_data / "few.csv").write_text("\n".join(["file,label", *table]))
    tiny_labels.data.root, tiny_labels.data.batch_size = copied_data / "few.csv", 1
    said = command("train", written(tiny_labels), "--out", tmp_path / "run")
    assert said.code == 0, said.error
    assert 0 in [line["loss"] for line in lines(tmp_path / "run") if "losses" in line]


@pytest.mark.parametrize(
    ("option", "value"),
    [("optimizer.l1", "0.01"), ("optimizer.clip_grad_norm", "0.01"), ("optimizer.backbone_lr_factor", "0")],
)
def test_option_changes_what_is_learnt(option: str, value: str, command, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert command("train", trained / "config.json", "--out", run, f"--{option}", value).code == 0
    plain, changed = (load_checkpoint(path, prefer_best=False).tensors("model") for path in (trained, run))
    weight = "heads.boxes.roi_head.fc6.weight"
    assert not torch.equal(plain[weight], changed[weight])
    if option == "optimizer.l1":
        assert changed[weight].abs().sum() < plain[weight].abs().sum()


@pytest.mark.slow
def test_same_seed_same_weights(command, trained: Path, tmp_path: Path) -> None:
    """config.json of a run makes the same run again; another seed makes another."""
    for seed in ("0", "1"):
        arguments = ["--out", tmp_path / seed, "--runner.seed", seed]
        assert command("train", trained / "config.json", *arguments).code == 0
    expected, same, other = (
        load_checkpoint(path, prefer_best=False).tensors("model") for path in (trained, tmp_path / "0", tmp_path / "1")
    )
    assert all(torch.equal(tensor, expected[name]) for name, tensor in same.items())
    assert any(not torch.equal(tensor, expected[name]) for name, tensor in other.items())


@pytest.mark.slow
@pytest.mark.parametrize("place", ["log", "mark_best", "save"])
def test_no_space_left(place: str, command, monkeypatch: pytest.MonkeyPatch, tiny_config: Path, tmp_path: Path) -> None:
    """Wherever a run writes: one line, the last checkpoint loads, and the run goes on from it."""
    from tasks import checkpoint

    run = tmp_path / "run"
    owner, name = {"log": (RunFolder, "log"), "mark_best": (module, "mark_best"), "save": (checkpoint, "save_file")}[
        place
    ]
    real, calls = getattr(owner, name), iter(range(100))

    def full(*arguments: Any, **keywords: Any) -> Any:
        if next(calls) >= {"log": 3, "mark_best": 0, "save": 4}[place]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **keywords)

    arguments = ["--runner.save_every_steps", "1", "--schedule.epochs", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        complaint = command("train", tiny_config, "--out", run, *arguments).complaint
    assert "no space left on the disk" in complaint
    assert f"--resume {run}" in complaint
    assert load_checkpoint(run, prefer_best=False).step in range(1, 10)
    assert command("train", "--resume", run).code == 0
    assert [line["step"] for line in lines(run) if "losses" in line] == list(range(1, 11))
    assert evaluations(run) == [5, 10]


def test_tensorboard_events_are_the_log(command, tiny_config: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    assert command("train", tiny_config, "--out", run, "--runner.tensorboard").code == 0
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    for line in lines(run):
        named = {f"losses/{name}": value for name, value in line.get("losses", {}).items()}
        named |= {f"metrics/{name}": value for name, value in line.get("metrics", {}).items()}
        named |= {name: line[name] for name in ("loss", "lr") if name in line}
        for tag, value in named.items():
            (found,) = [event.value for event in events.Scalars(tag) if event.step == line["step"]]
            assert found == pytest.approx(value, rel=1e-6), tag


def test_tensorboard_that_is_not_installed(
    command, monkeypatch: pytest.MonkeyPatch, tiny_config: Path, tmp_path: Path
) -> None:
    from tasks import tensorboard

    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    arguments = ["--out", tmp_path / "run", "--runner.tensorboard"]
    assert "pip install" in command("train", tiny_config, *arguments).complaint
    assert not (tmp_path / "run").exists()


def test_full_disk_is_the_only_system_error_that_is_the_users(
    command, monkeypatch: pytest.MonkeyPatch, tiny_config: Path, tmp_path: Path
) -> None:
    """A defect of ours keeps its traceback."""

    def broken(*arguments: Any) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(RunFolder, "log", broken)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        command("train", tiny_config, "--out", tmp_path / "run")
    assert not isinstance(caught.value, UserError)


def test_a_warmup_longer_than_the_run_is_told(command, tiny_config: Path, tmp_path: Path) -> None:
    said = command("train", tiny_config, "--out", tmp_path / "run", "--schedule.warmup_steps", "500")
    assert "warning: schedule.warmup_steps is 500" in said.out
