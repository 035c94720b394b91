"""Mistakes in what labels and masks add: one line with the field or file, the value, and how to mend it."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.config import Experiment

# The kind of head, the arguments, and what the message must hold.
ARGUMENTS: dict[str, tuple[str, list[str], list[str]]] = {
    "target": ("labels", ["--heads.labels.target", "singel"], ["heads.labels.target", "singel", "ordinal"]),
    "option of a head": ("labels", ["--heads.labels.targt", "single"], ["did you mean --heads.labels.target?"]),
    "level": ("labels", ["--heads.labels.level", "c7"], ["c7", "c1, c2, c3, c4, c5"]),
    "loss of another target": ("labels", ["--heads.labels.loss", "coral"], ["'coral'", "'cross_entropy'"]),
    "weights of three for two": (
        "labels",
        ["--heads.labels.class_weights", "1", "2", "3"],
        ["class_weights", "(1.0, 2.0, 3.0)", "2 numbers"],
    ),
    "negative weight": ("labels", ["--heads.labels.class_weights", "-1", "2"], ["heads.labels.class_weights.0 is -1"]),
    "word for weights": ("labels", ["--heads.labels.class_weights", "even"], ["class-weights", "balanced", "even"]),
    "balanced numbers": (
        "labels",
        [
            "--heads.labels.target=regression",
            "--data.columns.labels=red_cells",
            "--heads.labels.class_weights=balanced",
        ],
        ["heads.labels.class_weights is balanced", "leave it out"],
    ),
    "words for numbers": ("labels", ["--heads.labels.target", "regression"], ["line 2", "'platelet'", "a number"]),
    "column of labels": (
        "labels",
        ["--data.columns.labels", "lable"],
        ["image_labels.csv", "'lable'", "data.columns.labels", "label, red_cells"],
    ),
    "column of images": ("labels", ["--data.columns.image", "pth"], ["'pth'", "data.columns.image", "file, split"]),
    "class names": (
        "labels",
        ["--data.class_names", "platelet", "red"],
        ["image_labels.csv", "'white_cell'", "data.class_names (platelet, red)"],
    ),
    "fold": ("labels", ["--data.folds", "3", "--data.fold", "3"], ["data.fold is 3", "0 to 2", "data.folds is 3"]),
    "one fold": ("labels", ["--data.folds", "1"], ["data.folds is 1", "2"]),
    "more folds than images": ("labels", ["--data.folds", "11"], ["10 images", "at least 11 groups", "data.folds"]),
    "cutmix of numbers": (
        "labels",
        ["--heads.labels.target=regression", "--data.columns.labels=red_cells", "--data.augment.cutmix=1"],
        ["data.augment.cutmix is 1", "regression", "data.augment.mixup"],
    ),
    "crop without a size": (
        "labels",
        ["--data.augment.random_resized_crop", "0.1", "1"],
        ["data.augment.random_resized_crop", "data.size", "set one of them"],
    ),
    "metric": ("labels", ["--runner.monitor", "labels/acc"], ["'labels/acc'", "labels/accuracy"]),
    "mixed masks": ("masks", ["--data.augment.mixup", "0.2"], ["data.augment.mixup is 0.2", "masks", "expected 0"]),
    "masks of the middle": (
        "masks",
        ["--data.center_crop", "32", "32"],
        ["data.center_crop is (32, 32)", "masks", "data.size"],
    ),
    "no background weight": (
        "masks",
        ["--heads.masks.class_weights", "1", "2", "3"],
        ["class_weights", "(1.0, 2.0, 3.0)", "4 numbers (background first)"],
    ),
    "binary of three": ("masks", ["--heads.masks.target", "binary"], ["target is binary", "multiclass", "3 classes"]),
    "unknown loss": ("masks", ["--heads.masks.losses.dicee", "1"], ["did you mean --heads.masks.losses.dice?"]),
    "no loss": (
        "masks",
        ["--heads.masks.losses.cross_entropy", "0", "--heads.masks.losses.dice", "0"],
        ["losses", "a weight above 0", "tversky"],
    ),
    "empty window": ("masks", ["--inference.window", "0", "64"], ["inference.window.0 is 0"]),
    "mirror": ("masks", ["--inference.mirror", "sideways"], ["inference.mirror", "sideways", "horizontal"]),
    "labels in place of masks": ("masks", ["--data.root", "TABLE"], ["image_labels.csv", "mask", "data.columns.mask"]),
    "windows of boxes": (
        "boxes",
        ["--inference.window", "64", "64"],
        ["inference.window", "'boxes'", "labels or masks"],
    ),
    "mirrored boxes": ("boxes", ["--inference.mirror", "horizontal"], ["inference.mirror", "'boxes'"]),
    "mixed boxes": ("boxes", ["--data.augment.cutmix", "1"], ["data.augment.cutmix is 1", "boxes", "expected 0"]),
    "boxes of the middle": ("boxes", ["--data.center_crop", "32", "32"], ["data.center_crop", "boxes", "data.size"]),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(
    case: str, request: pytest.FixtureRequest, command, written, tiny_data: Path, tmp_path: Path
) -> None:
    kind, arguments, held = ARGUMENTS[case]
    config = request.getfixturevalue("tiny" if kind == "boxes" else f"tiny_{kind}")
    words = [str(tiny_data / "image_labels.csv") if word == "TABLE" else word for word in arguments]
    complaint = command("train", written(config), "--out", tmp_path / "run", *words).complaint
    assert [words for words in held if words not in complaint] == [], complaint
    assert not (tmp_path / "run").exists(), "a run folder was left behind"


Rows = list[dict[str, str]]


def without_labels(rows: Rows) -> None:
    for row in rows:
        row["label"] = ""


def only_one_class(rows: Rows) -> None:
    for row in rows:
        row["label"] = "platelet"


TABLES: dict[str, tuple[Callable[[Rows], object], list[str]]] = {
    "missing image": (lambda rows: rows[3].update(file="train/gone.png"), ["train/gone.png", "image_labels.csv"]),
    "outside the folder": (lambda rows: rows[3].update(file="../../secret.png"), ["../../secret.png", "outside"]),
    "no labels": (without_labels, ["image_labels.csv", "label"]),
    "one class": (only_one_class, ["platelet alone", "at least 2", "data.class_names"]),
    "two labels for an image": (
        lambda rows: rows.append({**rows[0], "label": "white_cell"}),
        ["train/train_0001.png", "line 16", "line 2", "one line for each image"],
    ),
    "no image": (lambda rows: rows[3].update(file=""), ["line 5", "'file' is empty"]),
    "no split": (lambda rows: rows[3].update(split=""), ["line 5", "'split' is empty"]),
}


@pytest.mark.parametrize("case", TABLES)
def test_table(case: str, command, written, tiny_labels: Experiment, copied_data: Path, tmp_path: Path) -> None:
    change, held = TABLES[case]
    file = copied_data / "image_labels.csv"
    with file.open() as old:
        rows = list(csv.DictReader(old))
    change(rows)
    with file.open("w", newline="") as new:
        writer = csv.DictWriter(new, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    tiny_labels.data.root = file
    complaint = command("train", written(tiny_labels), "--out", tmp_path / "run").complaint
    assert [words for words in held if words not in complaint] == [], complaint


@pytest.fixture
def folders(copied_data: Path, tmp_path: Path) -> Path:
    """Images and masks in folders."""
    root = tmp_path / "folders"
    for split in ("train", "val"):
        shutil.copytree(copied_data / split, root / split / "images")
        shutil.copytree(copied_data / "semantic" / split, root / split / "masks")
    return root


def smaller(file: Path) -> None:
    cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[:, :50])


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def empty_all(file: Path) -> None:
    for other in file.parents[2].glob("*/masks/*.png"):
        cv2.imwrite(str(other), np.zeros((64, 64), np.uint8))


def to_jpeg(file: Path) -> None:
    cv2.imwrite(str(file.with_suffix(".jpg")), cv2.imread(str(file)))
    file.unlink()


MASKS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "another size": (smaller, ["masks/train_0002.png", "50 x 64", "64 x 64"]),
    "damaged": (cut, ["masks/train_0002.png", "damaged"]),
    "all empty": (empty_all, ["all masks are empty"]),
    "lossy": (to_jpeg, ["masks/train_0002.jpg", "JPEG", "PNG"]),
}


@pytest.mark.parametrize("case", MASKS)
def test_masks(case: str, command, written, tiny_masks: Experiment, folders: Path, tmp_path: Path) -> None:
    change, held = MASKS[case]
    change(folders / "train" / "masks" / "train_0002.png")
    tiny_masks.data.root = folders
    complaint = command("train", written(tiny_masks), "--out", tmp_path / "run").complaint
    assert [words for words in held if words not in complaint] == [], complaint


def test_damaged_mask_of_evaluation(command, written, tiny_masks: Experiment, folders: Path, tmp_path: Path) -> None:
    """A mask that only the metric reads."""
    smaller(folders / "val" / "masks" / "val_0002.png")
    tiny_masks.data.root = folders
    complaint = command("train", written(tiny_masks), "--out", tmp_path / "run").complaint
    assert "masks/val_0002.png" in complaint
    assert "expected the same size" in complaint


def test_heads_that_read_masks_in_different_ways(command, written, tiny_masks: Experiment, tmp_path: Path) -> None:
    tiny_masks.heads["second"] = tiny_masks.heads["masks"].model_copy(update={"target": "multilabel"})
    complaint = command("train", written(tiny_masks), "--out", tmp_path / "run").complaint
    assert "heads.second.target is multilabel" in complaint
    assert "one target for both" in complaint
    assert not (tmp_path / "run").exists()


def test_checkpoint_of_another_kind(command, trained_labels: Path, trained_masks: Path, tiny_data: Path) -> None:
    """Data without what the run learnt from."""
    complaint = command("evaluate", trained_masks, "--data.root", tiny_data / "image_labels.csv").complaint
    assert "data.columns.mask" in complaint
    complaint = command("evaluate", trained_labels, "--data.root", tiny_data, "--data.format", "coco").complaint
    assert "has no labels of whole images" in complaint
