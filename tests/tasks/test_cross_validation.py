"""Cross-validation: nothing is scored by a model that knows it, and the numbers are those of the predictions."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tasks.config import Experiment, OptimizerConfig
from tasks.data.formats.cells import CLASSES
from tasks.data.splits import open_splits
from tasks.kinds import wanted_targets

FOLDS = 3


@pytest.fixture
def labels(tiny_labels: Experiment, copied_data: Path) -> Experiment:
    """Ten training images of five patients."""
    lines = (copied_data / "image_labels.csv").read_text().split()
    table = ["file,label,patient"]
    for number, line in enumerate(line for line in lines if line.startswith("train/")):
        file, _, label, *_ = line.split(",")
        table.append(f"{file},{label},patient {number % 5}")
    tiny_labels.data.root = copied_data / "patients.csv"
    tiny_labels.data.root.write_text("\n".join(table))
    tiny_labels.data.folds = FOLDS
    tiny_labels.optimizer = OptimizerConfig(lr=0.01)
    return tiny_labels


def held_out(config: Experiment) -> list[list[Path]]:
    """Validation images of each fold, of which none shares a patient, or anything, with those trained on."""
    found = []
    for fold in range(FOLDS):
        own = config.model_copy(deep=True)
        own.data.fold = fold
        train, val, _ = open_splits(own.data, own.runner.seed, wanted_targets(own))
        if train.groups is not None and val.groups is not None:
            assert not set(train.groups) & set(val.groups)
        assert not set(train.names) & set(val.names)
        assert len(train) + len(val) == 10
        found.append([val.file(index) for index in range(len(val))])
    assert len({file for files in found for file in files}) == sum(map(len, found)) == 10
    return found


def predicted(command: Callable[..., Any], run: Path, files: list[Path], out: Path) -> list[dict[str, Any]]:
    said = command("predict", run, *files, "--out", out)
    assert said.code == 0, said.error
    rows: list[dict[str, Any]] = json.loads((out / "predictions.json").read_text())
    return rows


def test_labels(labels: Experiment, command, written, tmp_path: Path) -> None:
    root, config = tmp_path / "cv", written(labels)
    said = command("cross_validate", config, "--out", root)
    assert said.code == 0, said.error
    assert f"tools/predict.py {root} IMAGES" in said.out
    summary = json.loads((root / "cross_validation.json").read_text())
    folds = held_out(labels)

    # Predictions of each fold for what it has not seen give the numbers.
    truth = {line.split(",")[0]: line.split(",")[1] for line in labels.data.root.read_text().split("\n")}  # type: ignore[union-attr]
    pairs: list[list[tuple[str, str]]] = []
    for fold, files in enumerate(folds):
        rows = predicted(command, root / f"fold_{fold}", files, tmp_path / f"out_{fold}")
        pairs.append([(truth["/".join(Path(row["file_name"]).parts[-2:])], row["label"]) for row in rows])
    each = [accuracy_score(*zip(*own, strict=True)) for own in pairs]
    row = summary["labels/accuracy"]
    together = [pair for own in pairs for pair in own]
    assert row["out_of_fold"] == pytest.approx(accuracy_score(*zip(*together, strict=True)))
    assert row["folds"] == pytest.approx(each)
    assert (row["mean"], row["std"]) == pytest.approx((np.mean(each), np.std(each, ddof=1)))

    # All models together are the mean of their scores.
    image = folds[0][:1]
    (averaged,) = predicted(command, root, image, tmp_path / "together")
    alone = [predicted(command, root / f"fold_{fold}", image, tmp_path / "alone")[0] for fold in range(FOLDS)]
    for name, score in averaged["scores"].items():
        assert score == pytest.approx(np.mean([row["scores"][name] for row in alone]), abs=2e-5)
    assert len({row["scores"]["platelet"] for row in alone}) == FOLDS

    # The same command only scores what is done, and trains a fold again that had nothing saved.
    times = {file: file.stat().st_mtime_ns for file in root.glob("fold_*/checkpoints/step_*/model.safetensors")}
    assert len(times) == FOLDS
    shutil.rmtree(next((root / "fold_2" / "checkpoints").glob("step_*")))
    for kept in ("pictures", "results"):
        shutil.rmtree(root / "fold_2" / kept)
    (root / "cross_validation.json").unlink()
    said = command("cross_validate", config, "--out", root)
    assert said.code == 0, said.error
    assert json.loads((root / "cross_validation.json").read_text()) == summary
    again = {file: file.stat().st_mtime_ns for file in times}
    assert [file.parts[-4] for file in times if times[file] != again[file]] == ["fold_2"]

    # With other folds the models would have seen what they are scored on.
    for option, value in (("data.folds", "2"), ("runner.seed", "1")):
        complaint = command("cross_validate", config, "--out", root, f"--{option}", value).complaint
        assert all(words in complaint for words in (option, value, str(root / "fold_0"), "--out")), complaint


@pytest.mark.slow
def test_masks(tiny_masks: Experiment, tiny_data: Path, command, written, tmp_path: Path) -> None:
    tiny_masks.data.folds = FOLDS
    tiny_masks.data.train = "train"
    root = tmp_path / "cv"
    said = command("cross_validate", written(tiny_masks), "--out", root)
    assert said.code == 0, said.error
    assert "the split 'val' is not used, since data.folds is set" in said.out
    assert {file.name for file in (root / "pictures").iterdir()} == {"masks_dice.png"}
    true, found = [], []
    for fold, files in enumerate(held_out(tiny_masks)):
        for row in predicted(command, root / f"fold_{fold}", files, tmp_path / f"out_{fold}"):
            found.append(cv2.imread(str(tmp_path / f"out_{fold}" / row["mask"]), cv2.IMREAD_UNCHANGED))
            file = tiny_data / "semantic" / "train" / Path(row["file_name"]).name
            true.append(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
    expected = f1_score(np.array(true).reshape(-1), np.array(found).reshape(-1), labels=[1, 2, 3], average=None)
    summary = json.loads((root / "cross_validation.json").read_text())
    assert expected.max() > 0.3
    assert [summary[f"masks/Dice/{name}"]["out_of_fold"] for name in CLASSES] == pytest.approx(expected, abs=0.002)
    for name in ("masks/Dice", "masks/HD95"):
        assert summary[name]["mean"] == pytest.approx(np.mean(summary[name]["folds"]))

    # What is done can be scored in another way of predicting.
    said = command("cross_validate", tmp_path / "tiny.json", "--out", root, "--inference.mirror", "horizontal")
    assert said.code == 0, said.error
    mirrored = json.loads((root / "cross_validation.json").read_text())
    assert mirrored["masks/Dice"]["out_of_fold"] != summary["masks/Dice"]["out_of_fold"]


def test_folds_are_needed(tiny_labels: Experiment, command, written) -> None:
    complaint = command("cross_validate", written(tiny_labels)).complaint
    assert "data.folds is not set" in complaint
    assert "--data.folds 5" in complaint


def test_config_is_needed(command) -> None:
    assert "tools/cross_validate.py configs/" in command("cross_validate").complaint
