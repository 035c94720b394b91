"""`tools/check.py` and `tools/train.py --check`, as a person would call them."""

import json
import shutil
from pathlib import Path

import cv2
import pytest

from tasks.config import BackboneConfig, Experiment
from tests.tasks.checking.networks import registered_networks  # noqa: F401  used by all tests


def test_nothing_wrong(command, tiny: Experiment, written, tmp_path: Path) -> None:
    said = command("check", written(tiny), "--json", tmp_path / "found.json", "--only", "data")
    assert said.code == 0, (said.out, said.error)
    assert "10 of 10 training images and 4 of 4 validation images looked at" in said.out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["counts"]["error"] == 0


def test_an_error_is_told_with_place_and_remedy(
    command, tiny: Experiment, written, copied_data: Path, tmp_path
) -> None:
    shutil.copy(copied_data / "train" / "train_0002.png", copied_data / "val" / "val_0003.png")
    tiny.data.root = copied_data
    said = command(
        "check", written(tiny), "--only", "data", "--json", tmp_path / "found.json", "--out", tmp_path / "out"
    )
    assert said.code == 1
    assert "image-leaked" in said.out
    assert "val/val_0003.png = train/train_0002.png" in said.out
    (leaked,) = [
        one for one in json.loads((tmp_path / "found.json").read_text())["findings"] if one["grade"] == "error"
    ]
    assert leaked["code"] == "image-leaked"
    assert [place["file"] for place in leaked["places"]] == ["val/val_0003.png", "train/train_0002.png"]
    assert leaked["fix"]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["image-leaked_1.jpg"]
    pair = cv2.imread(str(tmp_path / "out" / "image-leaked_1.jpg"))
    assert pair is not None
    left, right = pair[30:, : pair.shape[1] // 2 - 2], pair[30:, pair.shape[1] // 2 + 2 :]
    assert left.shape == right.shape
    # The same picture, but for what is annotated in each.
    assert float((abs(left.astype(int) - right) > 30).mean()) < 0.3


@pytest.mark.slow
def test_training_does_not_begin_after_an_error(
    command, tiny: Experiment, written, copied_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(copied_data / "train" / "train_0002.png", copied_data / "val" / "val_0003.png")
    tiny.data.root = copied_data
    tiny.backbone = BackboneConfig(name="checked_net")
    monkeypatch.chdir(tmp_path)  # where pictures go
    said = command("train", written(tiny), "--check", "--out", tmp_path / "run")
    assert said.code == 1
    assert "not trained" in said.out
    assert not (tmp_path / "run").exists()


def test_data_that_cannot_be_opened_is_an_error(command, tiny: Experiment, written, edit) -> None:
    tiny.data.root = edit(lambda content: content["annotations"][0].update(category_id=77))
    said = command("check", written(tiny))
    assert said.code == 1
    assert "data-unusable" in said.out
    assert "77" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "0"], ["--seconds", "0", "above 0"]),
        (["--only", "everything"], ["--only", "everything", "training"]),
        (["--data.root", "no/such/folder"], ["data.root", "no/such/folder"]),
    ],
)
def test_misuse(command, tiny_config: Path, arguments: list[str], words: list[str]) -> None:
    complaint = command("check", tiny_config, *arguments).complaint
    assert [word for word in words if word not in complaint] == []


def test_several_processes_are_told_to_check_before(command, tiny_config: Path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "tools/check.py" in command("train", tiny_config, "--check").complaint


def test_training_after_a_check_is_training_without_one(
    command, tiny_labels: Experiment, written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_labels.backbone = BackboneConfig(name="checked_net")
    monkeypatch.chdir(tmp_path)
    for out, option in (("plain", []), ("checked", ["--check"])):
        said = command("train", written(tiny_labels), "--out", tmp_path / out, *option)
        assert said.code == 0, (said.out, said.error)
    (plain,), (checked,) = (
        sorted((tmp_path / out / "checkpoints").glob("step_*"))[-1:] for out in ("plain", "checked")
    )
    assert (plain / "model.safetensors").read_bytes() == (checked / "model.safetensors").read_bytes()
