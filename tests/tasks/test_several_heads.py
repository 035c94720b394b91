"""Some heads of a checkpoint used without the others, and heads added to one and trained alone."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tasks.checkpoint import load_checkpoint
from tasks.config import ClassificationConfig, Experiment, UNetConfig
from tests.tasks.test_freezing import changed


def weights(run: Path) -> dict[str, Tensor]:
    return load_checkpoint(run, prefer_best=False).tensors("model")


def rows(folder: Path, head: str | None = None) -> list[dict[str, object]]:
    """Of predictions.json: of all heads, or of one and without its name."""
    found = json.loads((folder / "predictions.json").read_text())
    if head is None:
        return list(found)
    return [{key: value for key, value in row.items() if key != "head"} for row in found if row["head"] == head]


def test_predictions_of_some_heads(trained_joint: Path, tiny_data: Path, command, tmp_path: Path) -> None:
    assert command("predict", trained_joint, tiny_data / "val", "--out", tmp_path / "all").code == 0
    said = command("predict", trained_joint, tiny_data / "val", "--out", tmp_path / "boxes", "--only", "boxes")
    assert said.code == 0, said.error
    assert rows(tmp_path / "boxes") == rows(tmp_path / "all", "boxes")
    assert not (tmp_path / "boxes" / "masks").exists()
    assert (
        command("predict", trained_joint, tiny_data / "val", "--out", tmp_path / "masks", "--only", "masks").code == 0
    )
    for row, twin in zip(rows(tmp_path / "masks"), rows(tmp_path / "all", "masks"), strict=True):
        assert row["area"] == twin["area"]


def test_scores_of_some_heads(trained_joint: Path, command, tmp_path: Path) -> None:
    for name, only in (("all", []), ("boxes", ["--only", "boxes"]), ("both", ["--only", "masks", "boxes"])):
        said = command("evaluate", trained_joint, "--out", tmp_path / name, *only)
        assert said.code == 0, said.error
    scores = {name: json.loads((tmp_path / name).read_text()) for name in ("all", "boxes", "both")}
    assert scores["boxes"] == {name: value for name, value in scores["all"].items() if name.startswith("boxes/")}
    assert scores["both"] == scores["all"]


def test_one_head_of_a_joint_config_trained_alone(tiny_joint: Experiment, command, written, tmp_path: Path) -> None:
    tiny_joint.runner.monitor = "boxes/AP"
    tiny_joint.losses.weights = {"boxes": 2.0, "masks": 1.0}
    said = command("train", written(tiny_joint), "--out", tmp_path / "run", "--only", "masks")
    assert said.code == 0, said.error
    config = load_checkpoint(tmp_path / "run", prefer_best=False).config
    assert list(config.heads) == ["masks"]
    assert config.name == "tiny_masks"
    assert not any(name.startswith("heads.boxes") for name in weights(tmp_path / "run"))


@pytest.fixture
def another(tiny_joint: Experiment, trained_joint: Path) -> Experiment:
    """The joint experiment with a third head, which alone is to learn, from the weights of the run."""
    tiny_joint.heads["more"] = UNetConfig(decoder_channels=(32, 24, 16, 16, 8))
    tiny_joint.model.weights = trained_joint
    tiny_joint.model.train_only = ("more",)
    tiny_joint.optimizer.weight_decay = 0.1
    tiny_joint.runner.ema_decay = 0.9
    return tiny_joint


def test_a_head_is_added_and_trained_alone(another, trained_joint: Path, command, written, tiny_data, tmp_path) -> None:
    run = tmp_path / "run"
    said = command("train", written(another), "--out", run)
    assert said.code == 0, said.error
    before, after = load_checkpoint(trained_joint, prefer_best=True).tensors("model"), weights(run)
    assert {name for name in after if name not in before} == {name for name in after if name.startswith("heads.more.")}
    assert changed(before, {name: after[name] for name in before}) == set()
    average = load_checkpoint(run, prefer_best=False).tensors("ema")
    assert changed(before, {name: average[name] for name in before}) == set()
    # Only what learns has a state in the optimizer, losses and metrics.
    state = load_checkpoint(run, prefer_best=False).tensors("optimizer")
    assert state
    assert all(name.startswith("heads.more.") for name in state)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = {name for record in records for name in (record.get("losses") or record["metrics"])}
    assert all(name.startswith("more/") for name in names)
    # The old heads predict what they did.
    for name, source in (("old", trained_joint), ("new", run)):
        assert command("predict", source, tiny_data / "val", "--out", tmp_path / name, "--only", "boxes").code == 0
    assert rows(tmp_path / "new") == rows(tmp_path / "old")


def test_data_of_the_other_heads_need_not_be_there(another, tiny_labels, command, written, tmp_path: Path) -> None:
    """Labels of images alone, while the run has learned boxes and masks."""
    another.heads = {name: head for name, head in another.heads.items() if name != "more"}
    another.heads["labels"] = ClassificationConfig()
    another.model.train_only, another.data = ("labels",), tiny_labels.data
    run = tmp_path / "run"
    said = command("train", written(another), "--out", run)
    assert said.code == 0, said.error
    checkpoint = load_checkpoint(run, prefer_best=False)
    assert {name: len(classes) for name, classes in checkpoint.labels.items()} == {"boxes": 3, "masks": 3, "labels": 2}
    said = command("evaluate", run)
    assert said.code == 0, said.error
    assert "balanced_accuracy" in said.out
    assert "AP50" not in said.out
    # It goes on, with the heads at rest and their classes.
    said = command("train", "--resume", run, "--schedule.epochs", "2")
    assert said.code == 0, said.error
    assert changed(checkpoint.tensors("model"), weights(run)) == {
        "heads.labels.linear.weight",
        "heads.labels.linear.bias",
    }


MISTAKES = {
    "head to learn": (["--model.train_only", "mroe"], ["model.train_only", "'mroe'", "boxes, masks, more"]),
    "no weights": (["--model.weights", "None"], ["model.train_only is more", "boxes, masks", "--init RUN"]),
    "other backbone": (["--backbone.norm", "bn"], ["tensors", "model.train_only keeps", "backbone"]),
    "other head at rest": (
        ["--heads.masks.decoder_channels", *["8", "8", "8", "8", "8"]],
        ["heads.masks.", "keeps as it is"],
    ),
    "head to train": (["--only", "mask"], ["--only", "'mask'", "boxes, masks, more"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case: str, another, command, written, tmp_path: Path) -> None:
    arguments, words = MISTAKES[case]
    complaint = command("train", written(another), "--out", tmp_path / "run", *arguments).complaint
    assert all(word in complaint for word in words), complaint


def test_a_head_that_the_run_lacks(another, trained_masks: Path, command, written, tmp_path: Path) -> None:
    complaint = command("train", written(another), "--out", tmp_path / "run", "--init", trained_masks).complaint
    assert "has no head 'boxes', only masks" in complaint


@pytest.mark.parametrize("tool", ["predict", "evaluate"])
def test_unknown_head_to_use(tool: str, trained_joint: Path, tiny_data: Path, command, tmp_path: Path) -> None:
    images = [tiny_data / "val"] if tool == "predict" else []
    complaint = command(tool, trained_joint, *images, "--only", "bxes").complaint
    assert "--only names 'bxes'; expected heads of the experiment: boxes, masks" in complaint


def test_only_is_not_for_a_resumed_run(trained_joint: Path, command) -> None:
    assert "--only is for new runs" in command("train", "--resume", trained_joint, "--only", "boxes").complaint


def test_part_of_a_model_shares_its_weights(trained_joint: Path) -> None:
    from tasks.model import build_model
    from tests.tasks.steps import batch

    checkpoint = load_checkpoint(trained_joint, prefer_best=False)
    model = build_model(checkpoint.config, checkpoint.labels).eval()
    part = model.part(["masks"])
    assert {id(p) for p in part.parameters()} < {id(p) for p in model.parameters()}
    with torch.inference_mode():
        whole, alone = model.predict(batch()), part.predict(batch())
    assert list(alone) == ["masks"]
    for one, twin in zip(alone["masks"], whole["masks"], strict=True):
        assert torch.equal(one.masks, twin.masks)  # type: ignore[union-attr]
