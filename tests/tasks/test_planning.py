"""A plan is a config that loads, builds and fits the data that it was made for."""

from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from backbones import UserError
from tasks.config import Experiment
from tasks.data.dataset import Dataset
from tasks.data.sample import SampleKey
from tasks.data.splits import open_splits
from tasks.experiment_file import read_experiment
from tasks.fingerprint import take_fingerprint
from tasks.kinds import head_labels, wanted_targets
from tasks.model import build_model
from tasks.planning import plan_data


def made(root: Path, folder: Path) -> Experiment:
    """The plan for `root`, with a model built and a sample read by it."""
    config = read_experiment(plan_data(root, None, folder / "plan.py")).experiment
    train, _, _ = open_splits(config.data, 0, wanted_targets(config))
    build_model(config, head_labels(config, train))
    sample = Dataset(train, config.data, config.image, training=True, wanted=wanted_targets(config))[SampleKey(0, 0)]
    assert sample.image.shape[2] == config.image.stored_channels
    assert sample.image.dtype == np.float32 if config.image.stores_real_numbers else np.uint8
    return config


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """ROOT/CLASS/*.png: 18 of one class, 3 of another, 8-bit grey."""
    random = np.random.default_rng(0)
    for name, count in (("common", 18), ("rare", 3)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(
                str(tmp_path / "set" / name / f"{number}.png"), random.integers(0, 255, (70, 90), dtype=np.uint8)
            )
    return tmp_path / "set"


def test_boxes(tiny_data: Path, tmp_path: Path) -> None:
    config = made(tiny_data, tmp_path)
    head = config.heads["boxes"]
    assert head.name == "faster_rcnn"
    assert list(head.anchor_sizes) == sorted(set(head.anchor_sizes))
    found = take_fingerprint(tiny_data)
    train, _, _ = open_splits(config.data, 0)
    boxes = train.boxes.numpy()
    sizes = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    assert found.object_sizes[2] == pytest.approx(np.median(sizes))
    assert found.objects[4] == max(len(train.objects(index).boxes) for index in range(len(train)))
    assert sum(found.share) == pytest.approx(1)
    assert (found.images, found.validation, found.made_split) == (10, 4, False)
    resized = sizes * config.data.short_side[0] / 64
    covered = [any(size / 2 <= anchor <= size * 2 for anchor in head.anchor_sizes) for size in resized]
    assert np.mean(covered) > 0.9


def test_labels_of_rare_classes(pictures: Path, tmp_path: Path) -> None:
    config = made(pictures, tmp_path)
    head = config.heads["labels"]
    assert (head.name, head.target, head.class_weights) == ("classification", "single", "balanced")
    assert config.data.folds == 5
    assert config.data.balance == 0
    found = take_fingerprint(pictures)
    assert (found.channels, found.pixel, found.heights[2], found.widths[2]) == (1, "uint8", 70, 90)
    assert found.made_split


@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_masks_of_volumes(tmp_path: Path, kind: str) -> None:
    """CT has one scale for all; in MR every image has its own."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for number in range(4):
        values = random.normal(0, 400, (40, 48, 3)).clip(-1000, 2000)
        values[0] = -1000
        if kind == "mr":
            values = (values + 1000) * 4**number
        labels = np.zeros(values.shape, np.uint8)
        labels[5:9, 5:9] = 1
        labels[0, 0] = 2
        affine = np.diag([0.5, 0.75, 3, 1])
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), tmp_path / f"set/images/{number}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / f"set/masks/{number}.nii.gz")
    config = made(tmp_path / "set", tmp_path)
    assert config.heads["masks"].name == "unet"
    assert config.image.bit_depth == 32
    assert config.data.augment.horizontal_flip == 0
    if kind == "ct":
        assert config.image.percentiles is None
        assert config.image.low == pytest.approx(-1000, abs=20)
        assert config.image.high == pytest.approx(400 * 2.6, rel=0.15)
    else:
        assert config.image.percentiles == (0.5, 99.5)
    found = take_fingerprint(tmp_path / "set")
    assert found.spacing == pytest.approx((0.75, 0.5))
    assert found.share[0] == pytest.approx(16 / (40 * 48), rel=0.01)
    assert (
        config.heads["masks"].losses
        == Experiment.model_validate({"heads": {"masks": {"name": "unet", "losses": {"focal": 1.0, "dice": 1.0}}}})
        .heads["masks"]
        .losses
    )


def test_command(command, tiny_data: Path, pictures: Path, tmp_path: Path) -> None:
    said = command("plan", tiny_data, "--out", tmp_path / "p.py")
    assert said.code == 0, said.error
    assert f"tools/train.py {tmp_path}/p.py" in said.out
    assert "images to train on" in said.out
    assert "exists; expected a new file" in command("plan", tiny_data, "--out", tmp_path / "p.py").complaint
    assert "ends in .py" in command("plan", tiny_data, "--out", tmp_path / "p.json").complaint
    (tmp_path / "empty").mkdir()
    assert "no data found" in command("plan", tmp_path / "empty", "--out", tmp_path / "q.py").complaint
    assert "no annotations" in command("plan", pictures, "--task", "boxes", "--out", tmp_path / "q.py").complaint


def test_every_choice_says_why(tiny_data: Path, tmp_path: Path) -> None:
    text = plan_data(tiny_data, None, tmp_path / "p.py").read_text()
    lines = [line.strip() for line in text.splitlines()]
    for name in ("anchor_sizes", "short_side", "batch_size", "lr", "epochs", "norm", "horizontal_flip"):
        (at,) = [number for number, line in enumerate(lines) if line.startswith(f"{name}=")]
        assert lines[at - 1].startswith("# "), name


def test_files_that_cannot_be_used(tmp_path: Path, pictures: Path) -> None:
    (pictures / "common" / "0.png").write_bytes(b"hello")
    with pytest.raises(UserError, match=r"0\.png"):
        plan_data(pictures, None, tmp_path / "p.py")
    assert not (tmp_path / "p.py").exists()


@pytest.mark.parametrize("own", [True, False])
def test_a_split_of_arrays_is_not_taken_for_a_made_one(tmp_path: Path, own: bool) -> None:
    images, labels = np.zeros((10, 8, 8), np.uint8), np.arange(10) % 2
    parts = {"train_images": images, "train_labels": labels}
    if own:
        parts |= {"val_images": images, "val_labels": labels}
    np.savez(tmp_path / "a.npz", **parts)
    assert take_fingerprint(tmp_path / "a.npz").made_split is not own


@pytest.mark.parametrize("known", [True, False])
def test_images_without_a_number(tmp_path: Path, known: bool) -> None:
    images = np.full((10, 8, 8), np.nan, np.float32)
    if known:
        images[::2] = np.arange(64).reshape(8, 8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(10) // 5)
    if known:
        assert take_fingerprint(tmp_path / "a.npz").high == pytest.approx(63, abs=1)
        return
    with pytest.raises(UserError, match="is a finite number"):
        take_fingerprint(tmp_path / "a.npz")
