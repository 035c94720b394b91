"""The tools on runs that learn labels and masks: what is written agrees with what was measured."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from sklearn.metrics import balanced_accuracy_score, f1_score

from tasks.checkpoint import load_checkpoint
from tasks.config import Experiment, UNetConfig
from tasks.data.formats.cells import CLASSES

KINDS = ["labels", "masks"]


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """`run(kind)`: a trained run of that kind; not to be written to."""
    return lambda kind: request.getfixturevalue(f"trained_{kind}")


def measured(run: Path) -> dict[str, float]:
    """Metrics of the last evaluation."""
    found: dict[str, float] = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["metrics"]
    return found


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "predictions.json").read_text())
    return found


def truth_of_labels(data: Path) -> dict[str, str]:
    """Label by name of file, of the validation images."""
    lines = [line.split(",") for line in (data / "image_labels.csv").read_text().split()]
    return {Path(file).name: label for file, split, label, *_ in lines if split == "val"}


@pytest.mark.parametrize(
    ("kind", "chart"), [("labels", ["labels_confusion", "labels_calibration"]), ("masks", ["masks_dice"])]
)
def test_train_writes_a_run(kind: str, chart: list[str], run: Callable[[str], Path]) -> None:
    folder = run(kind)
    pictures = {file.stem for file in (folder / "pictures").iterdir()}
    assert pictures == {f"val_0001_1_{kind}", f"val_0004_4_{kind}", *chart}
    sheet = cv2.imread(str(folder / "pictures" / f"val_0004_4_{kind}.jpg"))
    assert sheet is not None
    assert sheet.shape[1] >= 2 * 640
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["losses"] for line in lines if "losses" in line]
    assert len(losses) == 5
    assert all(name.startswith(f"{kind}/") and np.isfinite(value) for line in losses for name, value in line.items())
    best = json.loads((folder / "checkpoints" / "best.json").read_text())
    main = {"labels": "labels/balanced_accuracy", "masks": "masks/Dice"}[kind]
    assert (best["metric"], best["value"]) == (main, measured(folder)[main])


def test_train_says_what_the_numbers_rest_on(command, tiny_masks: Experiment, written, tmp_path: Path) -> None:
    said = command("train", written(tiny_masks), "--out", tmp_path / "run")
    assert said.code == 0, said.error
    for words in ("Dice", "red_cell", "HD95 in pixels", "missed altogether in", "tools/predict.py"):
        assert words in said.out


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_gives_what_training_measured(kind: str, command, run: Callable[[str], Path], tmp_path: Path) -> None:
    said = command("evaluate", run(kind), "--out", tmp_path / "found.json")
    assert said.code == 0, said.error
    assert json.loads((tmp_path / "found.json").read_text()) == measured(run(kind))


def test_labels_written_are_those_measured(command, trained_labels: Path, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = command("predict", trained_labels, tiny_data / "val", "--out", out)
    assert said.code == 0, said.error
    assert len(list(out.glob("*.jpg"))) == 4
    known, found = truth_of_labels(tiny_data), rows(out)
    assert len(found) == 4
    pairs = [(known[Path(row["file_name"]).name], row["label"]) for row in found]
    metrics = measured(trained_labels)
    assert metrics["labels/accuracy"] == np.mean([true == predicted for true, predicted in pairs])
    expected = balanced_accuracy_score(*zip(*pairs, strict=True))
    assert metrics["labels/balanced_accuracy"] == pytest.approx(expected)
    for row in found:
        assert sum(row["scores"].values()) == pytest.approx(1, abs=1e-4)
        assert row["label"] == max(row["scores"], key=row["scores"].get)


def test_masks_written_are_those_measured(command, trained_masks: Path, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = command("predict", trained_masks, tiny_data / "val", "--out", out)
    assert said.code == 0, said.error
    assert len(list(out.glob("*.jpg"))) == 4
    true, predicted = [], []
    for row in rows(out):
        mask = cv2.imread(str(out / row["mask"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (64, 64)
        areas = {name: int((mask == value).sum()) for name, value in row["values"].items()}
        assert row["area"] == areas
        predicted.append(mask)
        true.append(cv2.imread(str(tiny_data / "semantic" / "val" / Path(row["file_name"]).name), cv2.IMREAD_UNCHANGED))
    pairs = np.array(true).reshape(-1), np.array(predicted).reshape(-1)
    # One image at a time here and two there: a pixel may lie on the edge between two classes.
    expected = f1_score(*pairs, labels=[1, 2, 3], average=None)
    metrics = measured(trained_masks)
    assert expected.max() > 0.5
    assert [metrics[f"masks/Dice/{name}"] for name in CLASSES] == pytest.approx(expected, abs=0.002)
    assert metrics["masks/Dice"] == pytest.approx(f1_score(*pairs, labels=[1, 2, 3], average="macro"), abs=0.002)


def test_init_from_a_detector_takes_the_backbone(
    command, trained: Path, tiny_masks: Experiment, written, tmp_path: Path
) -> None:
    """Even where the new head has far more tensors than the backbone."""
    tiny_masks.optimizer.lr = 1e-12
    tiny_masks.heads["masks"] = UNetConfig(decoder_channels=(16, 16, 16, 16, 16), attention="scse")
    said = command("train", written(tiny_masks), "--init", trained, "--out", tmp_path / "run")
    assert said.code == 0, said.error
    before, after = (load_checkpoint(path, prefer_best=False).tensors("model") for path in (trained, tmp_path / "run"))
    shared = [name for name in after if name.startswith("backbone.")]
    assert len(after) > 2 * len(shared)
    found = re.search(r"weights: (\d+) of (\d+) tensors from \S+; (\d+) start anew \(heads\.masks\.", said.out)
    assert found, said.out
    assert [int(number) for number in found.groups()] == [len(shared), len(after), len(after) - len(shared)]
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in shared)


def test_init_with_one_class_and_weights_of_classes(
    command, trained_masks: Path, tiny_masks: Experiment, tiny_data: Path, written, tmp_path: Path
) -> None:
    """Of a run with other classes all but the class layers is taken, though these options fix their number."""
    data = tmp_path / "data"
    for split in ("train", "val"):
        (data / split / "masks").mkdir(parents=True)
        shutil.copytree(tiny_data / split, data / split / "images")
        for file in (tiny_data / "semantic" / split).iterdir():
            mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(data / split / "masks" / file.name), (mask == 1).astype(np.uint8))
    tiny_masks.data.root, tiny_masks.optimizer.lr = data, 1e-12
    tiny_masks.heads["masks"].target = "binary"  # type: ignore[union-attr]
    tiny_masks.heads["masks"].class_weights = "balanced"  # type: ignore[union-attr]
    said = command("train", written(tiny_masks), "--init", trained_masks, "--out", tmp_path / "run")
    assert said.code == 0, said.error
    assert "2 start anew (heads.masks.segmentation_head.0.weight, heads.masks.segmentation_head.0.bias)" in said.out
    said = command("predict", tmp_path / "run", data / "val" / "images", "--out", tmp_path / "out")
    assert said.code == 0, said.error
    mask = cv2.imread(str(tmp_path / "out" / rows(tmp_path / "out")[0]["mask"]), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(mask)) <= {0, 1}


@pytest.fixture
def both(tiny: Experiment, tiny_masks: Experiment) -> Experiment:
    """Boxes and masks on one backbone."""
    tiny.heads = {**tiny.heads, **tiny_masks.heads}
    tiny.optimizer = tiny_masks.optimizer
    return tiny


def test_several_heads(command, both: Experiment, written, tiny_data: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    said = command("train", written(both), "--out", run, "--runner.monitor", "masks/mIoU")
    assert said.code == 0, said.error
    metrics = measured(run)
    assert {"boxes/AP50", "masks/Dice"} <= metrics.keys()
    assert {name.split("/")[0] for name in metrics} == {"boxes", "masks", "joint"}
    assert json.loads((run / "checkpoints" / "best.json").read_text())["metric"] == "masks/mIoU"
    losses = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["losses"]
    assert {"boxes/loss_rpn_box", "masks/dice"} <= losses.keys()
    assert command("evaluate", run, "--out", tmp_path / "found.json").code == 0
    assert json.loads((tmp_path / "found.json").read_text()) == metrics

    assert command("predict", run, tiny_data / "val", "--out", out).code == 0
    assert len(list(out.glob("*.jpg"))) == 4
    found = rows(out)
    assert {row["head"] for row in found} == {"boxes", "masks"}
    assert all(("bbox" in row) == (row["head"] == "boxes") for row in found)
    assert len({row["mask"] for row in found if row["head"] == "masks"}) == 4


def test_two_heads_of_a_kind_write_a_mask_each(
    command, tiny_masks: Experiment, written, tiny_data: Path, tmp_path: Path
) -> None:
    tiny_masks.heads["second"] = tiny_masks.heads["masks"].model_copy(update={"background": False})
    run, out = tmp_path / "run", tmp_path / "out"
    assert command("train", written(tiny_masks), "--out", run).code == 0
    assert command("predict", run, tiny_data / "val" / "val_0001.png", "--out", out).code == 0
    first, second = rows(out)
    assert (first["head"], second["head"]) == ("masks", "second")
    masks = [cv2.imread(str(out / row["mask"]), cv2.IMREAD_UNCHANGED) for row in (first, second)]
    assert (masks[0] == 0).any()
    assert (masks[1] != 0).all(), "without background every pixel has a class"


def test_monitor_of_a_metric_that_is_better_when_lower(
    command, tiny_masks: Experiment, written, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ["--schedule.epochs", "3", "--runner.monitor", "masks/HD95", "--runner.keep_last", "1"]
    assert command("train", written(tiny_masks), "--out", run, *arguments).code == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: line["metrics"]["masks/HD95"] for line in lines if "metrics" in line}
    assert len(set(found.values())) == 3
    best = json.loads((run / "checkpoints" / "best.json").read_text())
    step = min(found, key=found.__getitem__)
    assert best == {"checkpoint": f"step_{step:08d}", "metric": "masks/HD95", "value": found[step]}
    assert {folder.name for folder in (run / "checkpoints").glob("step_*")} == {f"step_{step:08d}", "step_00000015"}


def test_models_of_other_libraries_by_name(
    command, tiny_labels: Experiment, tiny_masks: Experiment, written: Callable[[Experiment], Path], tmp_path: Path
) -> None:
    """Whole networks; after no training to speak of, their weights are found in the checkpoint."""
    torch.manual_seed(0)
    classifier = torchvision.models.resnet18(num_classes=2)
    channels = (32, 24, 16, 16, 8)
    network = smp.Unet("resnet18", encoder_weights=None, decoder_channels=channels, classes=4)
    for experiment, reference, pairs in (
        (tiny_labels, classifier, {"heads.labels.linear.weight": "fc.weight"}),
        (tiny_masks, network, {"heads.masks.decoder.blocks.0.conv1.0.weight": "decoder.blocks.0.conv1.0.weight"}),
    ):
        kind = next(iter(experiment.heads))
        experiment.backbone.norm, experiment.data.batch_size, experiment.optimizer.lr = "frozen_bn", 10, 1e-12
        torch.save(reference.state_dict(), tmp_path / "net.pth")
        out = tmp_path / kind
        said = command("train", written(experiment), "--model.weights", tmp_path / "net.pth", "--out", out)
        assert said.code == 0, said.error
        assert f"the whole model from {tmp_path / 'net.pth'}" in said.out
        found, own = load_checkpoint(out, prefer_best=False).tensors("model"), reference.state_dict()
        for name, theirs in pairs.items():
            assert torch.allclose(found[name], own[theirs], atol=1e-7), name
        said = command(
            "train", written(experiment), "--model.weights", tmp_path / "net.pth", "--backbone.name", "resnet50"
        )
        assert "of this backbone and as many classes" in said.complaint
