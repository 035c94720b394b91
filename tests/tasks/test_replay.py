"""Any step of a run can be taken again, and is what it was to the last bit."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from backbones import UserError
from tasks.config import Experiment
from tasks.data.batch_file import load_batch, save_batch
from tests.tasks.steps import batch

Written = Callable[[Experiment], Path]


@pytest.mark.parametrize("kind", ["boxes", "labels"])
def test_every_step_of_a_run(
    kind: str, command, request: pytest.FixtureRequest, written: Written, tmp_path: Path
) -> None:
    """From the beginning, from a checkpoint, and a step behind one: losses and gradient as they were logged."""
    config: Experiment = request.getfixturevalue("tiny" if kind == "boxes" else f"tiny_{kind}")
    config.runner.save_every_steps, config.runner.accumulate, config.runner.pictures = 2, 2, 0
    if kind == "labels":
        config.optimizer.clip_grad_norm = 0.1
    run, out = tmp_path / "run", tmp_path / "step.json"
    assert command("train", written(config), "--out", run).code == 0
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = {line["step"]: line for line in lines if "losses" in line}
    assert (run / "checkpoints" / "step_00000004").exists()
    for step in (2, 5):
        said = command("replay", run, "--step", str(step), "--out", out)
        assert said.code == 0, said.error
        found = json.loads(out.read_text())
        assert found["losses"] == logged[step]["losses"]
        assert found["gradient_norm"] == logged[step]["gradient_norm"]
        assert found["lr"] == logged[step]["lr"]
        assert found["first_not_finite"] == ""
        parts = torch.tensor(list(found["module_gradient_norms"].values()))
        assert parts.norm().item() == pytest.approx(found["gradient_norm"], rel=1e-5)
        assert len(found["files"]) == len(found["image_ids"]) == len(found["sizes"]) == 2
        assert all(Path(file).exists() for file in found["files"])
        assert "initial weights" in said.out if step == 2 else "step_00000004" in said.out
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before


def test_steps_that_are_not_there(command, trained: Path, tmp_path: Path) -> None:
    assert "--step is 0; expected one from 1" in command("replay", trained, "--step", "0").complaint
    assert "has 5 steps" in command("replay", trained, "--step", "6").complaint
    assert "no run; expected a folder" in command("replay", tmp_path, "--step", "1").complaint


def test_a_batch_comes_back_whole(tmp_path: Path) -> None:
    saved = batch()
    save_batch(saved, tmp_path / "batch.safetensors")
    loaded = load_batch(tmp_path / "batch.safetensors")
    assert str(loaded) == str(saved)
    assert loaded.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(loaded.images, saved.images)
    assert saved.targets.boxes is not None
    assert loaded.targets.boxes is not None
    assert saved.targets.boxes.outlines is not None
    assert loaded.targets.boxes.outlines is not None
    assert torch.equal(loaded.targets.boxes.outlines.bits, saved.targets.boxes.outlines.bits)
    (tmp_path / "other.safetensors").write_bytes(b"no batch")
    with pytest.raises(UserError, match="not a batch of this version"):
        load_batch(tmp_path / "other.safetensors")
