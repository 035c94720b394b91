"""Folders of classes: equal to torchvision's ImageFolder, in every layout, and mistakes are told in one line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.formats.label_folders import LabelFolders
from tasks.data.splits import open_splits
from tasks.data.wanted import Wanted
from tasks.image_spec import ImageSpec

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes small images of these names, each of its own colour."""

    def build(*names: str) -> Path:
        root = tmp_path / "set"
        for number, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (5, 4), (number, 7, 9)).save(root / name)
        return root

    return build


def test_equal_to_torchvision(write: Write) -> None:
    root = write("dog/b.png", "cat/x.png", "dog/a.png", "cat/deep/y.png", "cat/a.jpeg", "10/z.png", "9/z.png")
    theirs = ImageFolder(str(root))
    annotations = LabelFolders(root).read("all")
    expected = {str(Path(file).relative_to(root)): theirs.classes[label] for file, label in theirs.samples}
    assert annotations.image_labels is not None
    names = [annotations.label_map.names[label] for label in annotations.image_labels.tolist()]
    assert dict(zip(annotations.names, names, strict=True)) == expected
    image = annotations.image(list(annotations.names).index("dog/b.png"), ImageSpec())
    assert image[0, 0].tolist() == [0, 7, 9]


def test_numbers_are_sorted_by_value(write: Write) -> None:
    root = write("10/a.png", "9/a.png", "-1/a.png")
    label_map = LabelFolders(root).read("all").label_map
    assert (label_map.ids, label_map.names) == ((0, 1, 2), ("-1", "9", "10"))


def test_splits_share_their_classes(write: Write) -> None:
    root = write("train/a/1.png", "train/b/2.png", "train/c/3.png", "val/b/4.png", "val/a/5.png", "test/6.png")
    (root / "val/c").mkdir()
    (root / "train/empty").mkdir()
    reader = LabelFolders(root)
    assert reader.splits() == ["train", "val"]
    train, val = reader.read("train"), reader.read("val")
    assert train.label_map == val.label_map
    assert train.label_map.names == ("a", "b", "c")
    assert val.image_labels is not None
    assert val.image_labels.tolist() == [0, 1]
    assert list(val.names) == ["val/a/5.png", "val/b/4.png"]
    assert str(train.report).endswith(
        "/train: 3 images, 3 classes (a 1, b 1, c 1); dropped 1 folders without images (empty)"
    )
    assert "2 images, 3 classes (a 1, b 1, c 0)" in str(val.report)
    assert str(val.report).endswith("no image of c")


def test_images_beside_the_classes_are_counted(write: Write) -> None:
    report = LabelFolders(write("a/1.png", "b/2.png", "3.png", ".hidden/4.png", "__MACOSX/5.png")).read("all").report
    assert report.images == 2
    assert report.dropped["images outside of the folders of the classes"].examples == ["3.png"]


def test_class_names_give_the_order_or_names(write: Write) -> None:
    root = write("high/1.png", "low/2.png", "middle/3.png")
    options = DataConfig(class_names=("low", "middle", "high"))
    annotations = LabelFolders(root, options, "ordinal").read("all")
    assert annotations.label_map.names == ("low", "middle", "high")
    assert annotations.image_labels is not None
    assert annotations.image_labels.tolist() == [2, 0, 1]
    numbered = write("n/0/1.png", "n/1/2.png") / "n"
    renamed = LabelFolders(numbered, DataConfig(class_names=("healthy", "ill"))).read("all")
    assert (renamed.label_map.ids, renamed.label_map.names) == ((0, 1), ("healthy", "ill"))


def test_one_of_several_labels(write: Write) -> None:
    labels = LabelFolders(write("a/1.png", "b/2.png"), None, "multi").read("all").image_labels
    assert labels is not None
    assert labels.dtype == torch.uint8
    assert labels.tolist() == [[1, 0], [0, 1]]


def test_frames_are_images(write: Write) -> None:
    root = write("a/1.png", "b/2.png")
    pages = [Image.fromarray(np.full((4, 5), 60 * page, np.uint8)) for page in range(3)]
    pages[0].save(root / "a/stack.tif", save_all=True, append_images=pages[1:])
    annotations = LabelFolders(root).read("all")
    assert list(annotations.names) == ["a/1.png"] + ["a/stack.tif"] * 3 + ["b/2.png"]
    assert annotations.frames is not None
    assert annotations.frames.tolist() == [0, 0, 1, 2, 0]
    assert annotations.image_labels is not None
    assert annotations.image_labels.tolist() == [0, 0, 0, 0, 1]
    train, val, _ = open_splits(DataConfig(root=root, val_fraction=0.4), 0, Wanted(boxes=False, labels="single"))
    assert not set(train.names) & set(val.names)


@pytest.mark.parametrize(
    ("names", "options", "labels", "says"),
    [
        (["train/a/1.png", "other/2.png"], {}, "single", "train/ holds a folder for each class"),
        (["a/1.png"], {}, "single", "the classes are a alone"),
        (["a/1.png", "b/1.png"], {"class_names": ("a", "c")}, "single", "the class 'b' is not in data.class_names"),
        (["a/1.png", "b/1.png"], {"class_names": ("a", "b", "b")}, "single", "name b appears twice"),
        (["0/1.png", "1/1.png", "2/1.png"], {"class_names": ("x", "y")}, "single", "2 class names"),
        (["low/1.png", "high/1.png"], {}, "ordinal", "their order is not known"),
        (["1/1.png", "2/1.png"], {}, "regression", "the head's target is 'regression'"),
    ],
)
def test_mistakes_are_one_line(write: Write, names: list[str], options: dict[str, Any], labels: Any, says: str) -> None:
    root = write(*names)
    with pytest.raises(UserError, match=says) as error:
        [LabelFolders(root, DataConfig(**options), labels).read(split) for split in LabelFolders(root).splits()]
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_link_that_leads_out_is_refused(write: Write, tmp_path: Path) -> None:
    root = write("a/1.png", "b/2.png")
    (tmp_path / "secret").mkdir()
    (root / "c").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="symbolic link"):
        LabelFolders(root).splits()
    (root / "c").unlink()
    (root / "a/loop").symlink_to(root / "a")
    assert len(LabelFolders(root).read("all")) == 2


def test_a_class_called_all(write: Write) -> None:
    annotations = LabelFolders(write("all/a.png", "hem/b.png")).read("all")
    assert list(annotations.names) == ["all/a.png", "hem/b.png"]


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are Unicode there")
def test_a_name_that_is_no_unicode(write: Write) -> None:
    root = write("a/1.png", "b/2.png")
    os.rename(root / "a/1.png", os.fsencode(root) + b"/a/M\xfcller.png")
    annotations = LabelFolders(root).read("all")
    assert annotations.image(0, ImageSpec()).shape == (4, 5, 3)
