"""Labels of images beside boxes and masks: counted, or joined from a table; one reading gives all targets."""

import csv
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from backbones.errors import UserError
from tasks.config import AugmentConfig, DataConfig
from tasks.data.dataset import Dataset
from tasks.data.sample import SampleKey
from tasks.data.splits import open_splits
from tasks.data.wanted import Wanted
from tasks.image_spec import ImageSpec

COUNTS = Wanted(boxes=True, labels="regression", masks="one")


def data(root: Path, **fields: object) -> DataConfig:
    return DataConfig.model_validate({"root": root, "short_side": (64,), "long_side": 64, **fields})


def truth(root: Path) -> dict[int, list[int]]:
    """Category ids of the objects of each training image, by pycocotools."""
    coco = COCO(root / "annotations" / "instances_train.json")
    return {image: [entry["category_id"] for entry in coco.imgToAnns[image]] for image in coco.getImgIds()}


@pytest.mark.parametrize("counted", ["all", "each"])
def test_objects_are_counted(counted: str, tiny_data: Path) -> None:
    train, val, _ = open_splits(data(tiny_data, count_objects=counted), 0, COUNTS)
    assert train.image_labels is not None
    assert train.label_classes == val.label_classes
    assert train.label_classes.names == (("objects",) if counted == "all" else train.label_map.names)
    for index, row in enumerate(train.image_labels.tolist()):
        ids = truth(tiny_data)[train.image_id(index)]
        assert row == ([len(ids)] if counted == "all" else [ids.count(raw) for raw in train.label_map.ids])


def test_crowds_are_not_counted(edit) -> None:
    def spoil(content) -> None:
        content["annotations"][0]["iscrowd"] = 1

    root = edit(spoil)
    train, _, _ = open_splits(data(root, count_objects="all"), 0, COUNTS)
    ids = truth(root)
    own = [len(ids[train.image_id(index)]) for index in range(len(train))]
    assert train.image_labels is not None
    assert sum(own) - train.image_labels.sum() == 1


def test_one_sample_brings_all_targets_and_counts_what_is_left(tiny_data: Path) -> None:
    config = data(tiny_data, count_objects="each", augment=AugmentConfig(crop=(32, 32)))
    train, _, _ = open_splits(config, 0, COUNTS)
    dataset = Dataset(train, config, ImageSpec(), seed=1, training=True, wanted=COUNTS)
    fewer = 0
    for index in range(len(train)):
        sample = dataset[SampleKey(index, 0)]
        assert sample.masks is not None
        assert sample.image_labels is not None
        assert sample.image_labels.dtype == np.float32
        assert sample.image_labels.tolist() == np.bincount(sample.labels, minlength=3).tolist()
        assert set(np.unique(sample.masks)) <= {0, 1, 2, 3}
        assert train.image_labels is not None
        fewer += sample.image_labels.sum() < train.image_labels[index].sum()
    assert fewer > 0


def test_labels_of_a_table_are_joined(tiny_data: Path) -> None:
    wanted = Wanted(boxes=True, labels="single")
    train, val, messages = open_splits(data(tiny_data, image_labels=tiny_data / "image_labels.csv"), 0, wanted)
    with (tiny_data / "image_labels.csv").open() as file:
        rows = {row["file"]: row["label"] for row in csv.DictReader(file)}
    for split in (train, val):
        assert split.image_labels is not None
        found = [split.label_classes.names[label] for label in split.image_labels.tolist()]
        assert found == [rows[str(split.file(index).relative_to(tiny_data))] for index in range(len(split))]
    assert len(train.boxes)
    assert "image_labels.csv: 2 classes" in messages[0]
    # The boxes' own classes are what balance and folds go by.
    assert train.own_image_labels is None
    assert train.select([1, 2], "part").label_classes == train.label_classes


def test_the_generated_sample_brings_its_table(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.data.formats.cells.write_cells", lambda root: tiny_data)
    train, _, _ = open_splits(DataConfig(format="cells"), 0, Wanted(boxes=True, labels="single", masks="one"))
    assert train.image_labels is not None
    assert (train.image_labels >= 0).all()
    train, _, _ = open_splits(
        DataConfig(format="cells", count_objects="all"), 0, Wanted(boxes=False, labels="regression")
    )
    assert train.label_classes.names == ("objects",)


def test_an_image_without_a_line_has_no_label(copied_data: Path) -> None:
    table = copied_data / "image_labels.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *lines[2:]]))
    train, _, _ = open_splits(data(copied_data, image_labels=table), 0, Wanted(boxes=True, labels="single"))
    assert train.image_labels is not None
    assert train.image_labels.tolist().count(-1) == 1
    config = data(copied_data, image_labels=table)
    dataset = Dataset(train, config, ImageSpec(), training=False, wanted=Wanted(boxes=True, labels="single"))
    values = [dataset[SampleKey(index, 0)].image_labels for index in range(len(train))]
    assert sorted(len(value) for value in values if value is not None) == [0] + [2] * 9


def test_mistakes(tiny_data: Path, tmp_path: Path) -> None:
    boxes_and_labels = Wanted(boxes=True, labels="single")
    with pytest.raises(UserError, match=r"data\.count_objects is 'all'.*'single'.*'regression'"):
        open_splits(data(tiny_data, count_objects="all"), 0, boxes_and_labels)
    with pytest.raises(UserError, match=r"has no labels of whole images.*data\.image_labels.*data\.count_objects"):
        open_splits(data(tiny_data), 0, boxes_and_labels)
    with pytest.raises(UserError, match=r"data\.image_labels .*missing\.csv is not a file"):
        open_splits(data(tiny_data, image_labels=tmp_path / "missing.csv"), 0, boxes_and_labels)
    other = tmp_path / "other.csv"
    (tmp_path / "x.png").write_bytes((tiny_data / "val" / "val_0001.png").read_bytes())
    (tmp_path / "y.png").write_bytes((tmp_path / "x.png").read_bytes())
    other.write_text("file,label\nx.png,a\ny.png,b\n")
    with pytest.raises(UserError, match=r"other\.csv: names none of the 10 images"):
        open_splits(data(tiny_data, image_labels=other), 0, boxes_and_labels)
