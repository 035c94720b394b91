"""The generated sample: the same bytes for the same seed, complete, and described correctly."""

import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.formats import cells
from tasks.data.formats.cells import CLASSES, write_cells
from tasks.data.formats.coco import CocoFolder
from tasks.data.splits import open_splits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cells(tmp_path_factory.mktemp("cells"), train=60, val=8)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_the_seed_decides_every_byte(folder: Path, tmp_path: Path) -> None:
    first = contents(write_cells(tmp_path / "a", train=3, val=2))
    assert first == contents(write_cells(tmp_path / "b", train=3, val=2))
    assert len(first) == 2 * (3 + 2) + 2 + 1
    other = contents(write_cells(tmp_path / "a", train=3, val=2, seed=1))
    assert first["train/train_0001.png"] != other["train/train_0001.png"]
    # An image does not depend on how many there are.
    assert first["train/train_0002.png"] == contents(folder)["train/train_0002.png"]


def test_it_is_written_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_write", None)
    assert write_cells(folder.parent, train=60, val=8) == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cells, "_png", fail)
    with pytest.raises(UserError, match=r"No space left on device.*POLYHEAD_CACHE"):
        write_cells(tmp_path, train=2, val=1)
    assert list(tmp_path.iterdir()) == []


def test_boxes_masks_and_labels_agree(folder: Path) -> None:
    with (folder / "image_labels.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for split in ("train", "val"):
        annotations = CocoFolder(folder).read(split, masks=True)
        assert not annotations.report.dropped
        assert not annotations.report.mended
        for index in range(len(annotations)):
            objects, masks = annotations.objects(index), annotations.masks(index, (128, 128))
            assert masks.sum(0).max(initial=0) <= 1
            semantic = cv2.imread(str(folder / "semantic" / split / annotations.name(index)), cv2.IMREAD_UNCHANGED)
            expected = np.zeros((128, 128), int)
            for mask, label, box, area in zip(masks, objects.labels, objects.boxes, objects.areas, strict=True):
                expected[mask > 0] = label + 1
                y, x = np.nonzero(mask)
                assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
                assert area == mask.sum() > 60
            np.testing.assert_array_equal(semantic, expected)
            row = rows[f"{split}/{annotations.name(index)}"]
            assert [int(row[f"{name}s"]) for name in CLASSES] == np.bincount(objects.labels, minlength=3).tolist()
            assert (row["label"] == "empty") == (not len(objects.labels))
            assert row["split"] == split


def test_it_is_varied(folder: Path) -> None:
    annotations = CocoFolder(folder).read("train")
    assert 1 <= annotations.report.without_boxes <= 10
    sides = (annotations.boxes[:, 2:] - annotations.boxes[:, :2]).amax(1)
    assert sides.min() >= 10
    assert sides.max() <= 49
    counts = Counter(annotations.labels.tolist())
    assert min(counts[label] for label in range(3)) > 20
    images = [cv2.imread(str(annotations.file(i))) for i in range(10)]
    assert all(image.shape == (128, 128, 3) for image in images)


def test_it_opens_as_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYHEAD_CACHE", str(tmp_path))
    monkeypatch.setattr(
        cells, "_write", lambda folder, seed, counts, size: original(folder, seed, {"train": 4, "val": 2}, size)
    )
    train, val, _ = open_splits(DataConfig(format="cells"), 0)
    assert (len(train), len(val)) == (4, 2)
    assert train.label_map.names == CLASSES
    assert tmp_path in train.root.parents


original = cells._write
