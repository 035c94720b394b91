"""Finding, asking for and making splits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data import splits
from tasks.data.annotations import Annotations
from tasks.data.formats.coco import CocoFolder
from tasks.data.formats.readers import readers, register_reader
from tasks.data.split_names import choose_splits
from tasks.data.splits import make_split, open_splits
from tasks.data.wanted import Wanted

Content = dict[str, Any]
Build = Callable[..., Content]
Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        (["train2017", "val2017"], (None, None), ("train2017", "val2017")),
        (["test", "train", "trainval", "val"], (None, None), ("train", "val")),
        (["test", "train", "trainval", "val"], ("trainval", None), ("trainval", "test")),
        (["test", "trainval", "val"], (None, None), ("trainval", "test")),
        (["test", "train", "valid"], (None, None), ("train", "valid")),
        (["test", "train"], (None, None), ("train", "test")),
        (["train"], (None, None), ("train", None)),
        (["val"], (None, None), (None, "val")),
        (["labels"], (None, None), ("labels", None)),
        (["labels", "val"], (None, None), ("labels", "val")),
        (["a", "b"], ("a", "b"), ("a", "b")),
        (["train", "val"], ("train", "train"), ("train", "train")),
    ],
)
def test_choice(
    names: list[str], asked: tuple[str | None, str | None], expected: tuple[str | None, str | None]
) -> None:
    assert choose_splits(names, *asked) == expected


def test_choice_that_cannot_be_made() -> None:
    with pytest.raises(UserError, match=r"data\.val is 'dev'; expected one of the splits found: train, val"):
        choose_splits(["train", "val"], None, "dev")
    with pytest.raises(UserError, match=r"set data\.train to one of a, b"):
        choose_splits(["a", "b"])


def test_two_splits(coco_content: Build, write_coco: Write) -> None:
    write_coco(coco_content())
    root = write_coco(coco_content(4, "other"), "annotations/instances_val.json", "val")
    train, val, messages = open_splits(DataConfig(root=root), 0)
    assert (len(train), len(val)) == (6, 4)
    assert len(messages) == 2
    assert "6 images, 10 boxes (1 images without)" in messages[0]


def test_the_same_images_on_both_sides_are_told(coco_content: Build, write_coco: Write) -> None:
    root = write_coco(coco_content())
    messages = open_splits(DataConfig(root=root, train="train", val="train"), 0)[2]
    assert "6 images are in 'train' and in 'train'" in messages[-1]


def test_made_split_is_complete_seeded_and_told(coco_content: Build, write_coco: Write) -> None:
    root = write_coco(coco_content(20))
    config = DataConfig(root=root, val_fraction=0.25)
    train, val, messages = open_splits(config, 3)
    again = open_splits(config, 3)
    ids = [set(split.image_ids.tolist()) for split in (train, val)]
    assert len(ids[1]) == 5
    assert not ids[0] & ids[1]
    assert len(ids[0] | ids[1]) == 20
    assert again[1].image_ids.tolist() == val.image_ids.tolist()
    assert open_splits(config, 4)[1].image_ids.tolist() != val.image_ids.tolist()
    assert "no validation split found; made one: 15 images of 'train'" in messages[0]
    assert "5 held out (seed 3)" in messages[0]
    whole = CocoFolder(root).read("train")
    for split in (train, val):
        for index in range(len(split)):
            original = whole.image_ids.tolist().index(split.image_id(index))
            assert split.file(index) == whole.file(original)
            assert split.objects(index).boxes.tolist() == whole.objects(original).boxes.tolist()


def test_training_split_is_made_from_the_other(coco_content: Build, write_coco: Write) -> None:
    root = write_coco(coco_content(10), "annotations/instances_val.json", "val")
    train, val, messages = open_splits(DataConfig(root=root), 0)
    assert (len(train), len(val)) == (8, 2)
    assert "no training split found" in messages[0]


def test_groups_stay_together(coco_content: Build, write_coco: Write) -> None:
    content = coco_content(24)
    for i, image in enumerate(content["images"]):
        image["file_name"] = f"patient{i % 6}_slice{i}.png"
    config = DataConfig(root=write_coco(content), group_by=r"(patient\d+)_", val_fraction=0.3)
    train, val, messages = open_splits(config, 0)
    patients = [{split.name(i).split("_")[0] for i in range(len(split))} for split in (train, val)]
    assert not patients[0] & patients[1]
    assert len(val) == 8
    assert "grouped by" in messages[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"group_by": "("}, "not a regular expression"),
        ({"group_by": "zebra"}, "does not match the file name 'image_0.png'"),
        ({"group_by": "image"}, "at least 2 groups"),
    ],
)
def test_splits_that_cannot_be_made(coco_content: Build, write_coco: Write, options: dict[str, Any], says: str) -> None:
    config = DataConfig(root=write_coco(coco_content()), **options)
    with pytest.raises(UserError) as error:
        open_splits(config, 0)
    assert says in str(error.value)
    assert "expected" in str(error.value) or "not a regular" in says


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_neither_side_is_ever_empty(coco_content: Build, write_coco: Write, fraction: float) -> None:
    train, val = make_split(CocoFolder(write_coco(coco_content(7))).read("train"), fraction, None, 0)
    assert len(train) >= 1
    assert len(val) >= 1
    assert len(train) + len(val) == 7


def test_masks_follow_their_images(coco_content: Build, write_coco: Write) -> None:
    whole = CocoFolder(write_coco(coco_content(9))).read("train", masks=True)
    chosen = whole.select([7, 2, 5], "x")
    for index, original in enumerate((7, 2, 5)):
        size = whole.size(original)
        assert size is not None
        assert (chosen.masks(index, size) == whole.masks(original, size)).all()
    assert chosen.to_coco()["annotations"][0]["segmentation"] == whole.to_coco()["annotations"][14]["segmentation"]


def test_splits_that_disagree_on_the_classes(coco_content: Build, write_coco: Write) -> None:
    write_coco(coco_content())
    content = coco_content(4, "other")
    content["categories"][0]["name"] = "wolf"
    root = write_coco(content, "annotations/instances_val.json", "val")
    with pytest.raises(UserError, match=r"list different categories \(3=cat, 9=dog \| 3=cat, 9=wolf\)"):
        open_splits(DataConfig(root=root), 0)


def test_nothing_to_train_on(coco_content: Build, write_coco: Write) -> None:
    write_coco(coco_content(3, "other"), "annotations/instances_val.json", "val")
    root = write_coco({**coco_content(), "images": [], "annotations": []})
    with pytest.raises(UserError, match="0 images in the split 'train'"):
        open_splits(DataConfig(root=root), 0)
    write_coco({**coco_content(), "annotations": []})
    with pytest.raises(UserError, match="no usable box in the split 'train'"):
        open_splits(DataConfig(root=root), 0)


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root .*gone does not exist"):
        open_splits(DataConfig(root=tmp_path / "gone"), 0)
    with pytest.raises(UserError, match="no annotations found; expected COCO json"):
        open_splits(DataConfig(root=tmp_path), 0)
    with pytest.raises(UserError, match="no split found by the reader 'voc'"):
        open_splits(DataConfig(root=tmp_path, format="voc"), 0)
    with pytest.raises(UserError, match="reader 'vok' is not registered; did you mean voc"):
        open_splits(DataConfig(root=tmp_path, format="vok"), 0)
    with pytest.raises(UserError, match=r"data\.root is not set"):
        open_splits(DataConfig(), 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not a folder"):
        open_splits(DataConfig(root=tmp_path / "file"), 0)


def test_readers_are_registered() -> None:
    built_in = {"coco", "voc", "cells", "csv", "npz", "image_folder", "masks", "cifar", "mnist"}
    assert built_in <= set(readers.names())


def test_coco_written_back_reads_the_same(coco_content: Build, write_coco: Write, tmp_path: Path) -> None:
    root = write_coco(coco_content())
    first = CocoFolder(root).read("train", masks=True)
    (root / "annotations/instances_train.json").write_text(json.dumps(first.to_coco()))
    second = CocoFolder(root).read("train", masks=True)
    assert first.to_coco() == second.to_coco()
    assert [row["id"] for row in first.to_coco()["annotations"]] == list(range(1, 11))


def test_what_is_looked_for_depends_on_what_is_wanted(tiny_data: Path, tmp_path: Path) -> None:
    labels = Wanted(boxes=False, labels="single")
    masks = Wanted(boxes=False, masks="one")
    config = DataConfig(root=tiny_data)
    assert len(open_splits(config, 0)[0].boxes)
    assert open_splits(config, 0, labels)[0].image_labels is not None
    drawn = open_splits(config, 0, masks)[0]
    assert drawn.segments is not None
    assert open_splits(DataConfig(root=tiny_data / "image_labels.csv"), 0, labels)[0].image_labels is not None
    with pytest.raises(UserError, match=r"has no labels of whole images; expected a table .*CIFAR.*MNIST.*CLASS"):
        open_splits(DataConfig(root=tiny_data, format="coco"), 0, labels)
    with pytest.raises(UserError, match=r"no usable box"):
        open_splits(DataConfig(root=tiny_data, format="csv"), 0)
    with pytest.raises(UserError, match="has no masks; expected images/ and masks/"):
        open_splits(DataConfig(root=tiny_data, format="no_masks"), 0, masks)
    with pytest.raises(UserError, match=r"no annotations found; expected a table .* or CIFAR batches .* or MNIST"):
        open_splits(DataConfig(root=tmp_path), 0, labels)
    with pytest.raises(UserError, match=r"no annotations found; expected images/ and masks/ .* COCO json"):
        open_splits(DataConfig(root=tmp_path), 0, masks)
    outlines = Wanted(outlines=True)
    assert open_splits(config, 0, outlines)[0].segments is not None
    with pytest.raises(UserError, match=r"no object of the split 'train' has an outline; expected COCO json with segm"):
        open_splits(DataConfig(root=tiny_data, format="no_masks"), 0, outlines)
    with pytest.raises(UserError, match=r"is not a folder; expected one for data\.format 'coco'"):
        open_splits(DataConfig(root=tiny_data / "image_labels.csv", format="coco"), 0)


@register_reader("no_masks")
class NoMasks(CocoFolder):
    """A reader from elsewhere that cannot give masks."""

    def read(self, split: str, masks: bool = False) -> Annotations:
        return super().read(split)


def test_the_sample_has_labels(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "CellsFolder", lambda _: CocoFolder(tiny_data))
    train, val, _ = open_splits(DataConfig(format="cells"), 0, Wanted(boxes=False, labels="single"))
    assert train.image_labels is not None
    assert (len(train), len(val)) == (10, 4)


def test_groups_on_both_sides_are_told(coco_content: Build, write_coco: Write) -> None:
    write_coco(coco_content(6, "p1"))
    root = write_coco(coco_content(4, "p2"), "annotations/instances_val.json", "val")
    assert not any("groups (p" in line for line in open_splits(DataConfig(root=root, group_by=r"p\d"), 0)[2])
    messages = open_splits(DataConfig(root=root, group_by="p"), 0)[2]
    assert "1 groups (p) are in 'train' and in 'val'" in messages[-1]
    assert len(open_splits(DataConfig(root=root, group_by="p1"), 0)[2]) == 2
