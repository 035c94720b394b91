"""Arrays in .npz files: the arrays as numpy reads them, and files that cannot be used are told in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.formats.npz_arrays import NpzArrays
from tasks.data.semantic import semantic_masks
from tasks.data.splits import open_splits
from tasks.data.wanted import Wanted
from tasks.image_spec import ImageSpec

Write = Callable[..., Path]
GREY = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def build(**arrays: Any) -> Path:
        file = tmp_path / "set.npz"
        np.savez_compressed(file, **arrays)
        return file

    return build


def test_real_file(reference_data: Path) -> None:
    folder = reference_data / "pneumonia28"
    config = DataConfig(root=folder, class_names=("normal", "pneumonia"))
    train, val, messages = open_splits(config, 0, Wanted(boxes=False, labels="single"))
    assert "2428 images, 2 classes (normal 1214, pneumonia 1214)" in messages[0]
    test = open_splits(config.model_copy(update={"val": "test"}), 0, Wanted(boxes=False, labels="single"))[1]
    with np.load(folder / "pneumonia28.npz") as content:
        for split, annotations in (("train", train), ("val", val), ("test", test)):
            assert annotations.pixels is not None
            np.testing.assert_array_equal(annotations.pixels[..., 0].numpy(), content[f"{split}_images"])
            assert annotations.image_labels is not None
            assert annotations.image_labels.tolist() == content[f"{split}_labels"][:, 0].tolist()


def test_images_without_splits(write: Write) -> None:
    file = write(images=GREY, labels=np.array([3, 3, 7, 7, 3, -1]))
    reader = NpzArrays(file.parent)
    assert reader.splits() == ["all"]
    annotations = reader.read("all")
    assert (annotations.label_map.ids, annotations.label_map.names) == ((3, 7), ("3", "7"))
    assert annotations.image_labels is not None
    assert annotations.image_labels.tolist() == [0, 0, 1, 1, 0, -1]
    assert annotations.image(2, ImageSpec(channels=3)).tolist() == np.repeat(GREY[2][:, :, None], 3, 2).tolist()
    assert annotations.describe(2) == f"{file}[3]"
    train, val, messages = open_splits(DataConfig(root=file), 0, Wanted(boxes=False, labels="single"))
    assert (len(train), len(val)) == (5, 1)
    assert not any("are in" in message for message in messages)
    assert val.image(0, ImageSpec(channels=1)).tolist() == GREY[val.image_id(0) - 1][:, :, None].tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 1), (2, 4, 5, 3)])
def test_pixels_are_kept(write: Write, dtype: Any, shape: tuple[int, ...]) -> None:
    images = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    pixels = NpzArrays(write(images=images, labels=[0, 1])).read("all").pixels
    assert pixels is not None
    assert pixels.dtype == {np.uint8: torch.uint8, np.uint16: torch.uint16}.get(dtype, torch.float32)
    assert pixels.is_contiguous()
    np.testing.assert_array_equal(pixels.numpy().reshape(shape), images)


def test_classes_are_those_of_all_splits(write: Write) -> None:
    arrays = {"train_images": GREY[:2], "val_images": GREY[2:4]}
    names = write(**arrays, train_labels=np.array(["b", "a"]), val_labels=np.array(["c", ""]))
    train, val = (NpzArrays(names).read(split) for split in ("train", "val"))
    assert train.label_map == val.label_map
    assert train.label_map.names == ("a", "b", "c")
    assert val.image_labels is not None
    assert val.image_labels.tolist() == [2, -1]
    numbers = write(**arrays, train_labels=[[0], [1]], val_labels=[[2], [0]], class_names=np.array(["x", "y", "z"]))
    assert NpzArrays(numbers).read("train").label_map.names == ("x", "y", "z")
    assert NpzArrays(numbers, DataConfig(class_names=("u", "v", "w"))).read("train").label_map.names == ("u", "v", "w")


def test_rows_of_labels(write: Write) -> None:
    values = [[1, 0, 1], [0, 0, 0]]
    multi = NpzArrays(write(images=GREY[:2], labels=values), None, "multi").read("all")
    assert multi.image_labels is not None
    assert multi.image_labels.tolist() == values
    assert multi.image_labels.dtype == torch.uint8
    numbers = NpzArrays(write(images=GREY[:2], labels=[1.5, np.nan]), DataConfig(class_names=("age",)), "regression")
    annotations = numbers.read("all")
    assert annotations.label_map.names == ("age",)
    assert annotations.image_labels is not None
    np.testing.assert_array_equal(annotations.image_labels.numpy(), np.array([[1.5], [np.nan]], np.float32))
    assert "1 numbers (age 1.5 to 1.5), 1 images without a label" in str(annotations.report)


def test_masks(write: Write) -> None:
    masks = np.where(GREY % 3 == 0, 0, np.where(GREY % 3 == 1, 4, 255)).astype(np.uint8)
    file = write(train_images=GREY[:4], train_masks=masks[:4], val_images=GREY[4:], val_masks=masks[4:])
    config = DataConfig(root=file, ignored_value=255, class_names=("cell",))
    train, val, _ = open_splits(config, 0, Wanted(boxes=False, masks="one"))
    assert (train.label_map.ids, train.label_map.names) == ((4,), ("cell",))
    expected = np.array([0, 1, 255])[GREY % 3][..., None]
    for split, truth in ((train, expected[:4]), (val, expected[4:]), (train.select([3, 1], "x"), expected[[3, 1]])):
        for index in range(len(split)):
            np.testing.assert_array_equal(semantic_masks(split, index, (4, 5), False), truth[index])
    assert "the value 255 in masks counts as a class" in str(NpzArrays(file).read("train", masks=True).report)


@pytest.mark.parametrize(
    ("arrays", "kind", "says"),
    [
        ({"labels": [1]}, "single", "holds labels; expected images and labels"),
        ({"images": GREY}, "single", "no labels of the split 'all'"),
        ({"images": GREY, "labels": [0, 1]}, "single", r"are \(2,\), for 6 images"),
        ({"images": GREY[:2], "labels": np.array([{}, 1], object)}, "single", "Python objects"),
        ({"images": GREY[:2].astype(np.int64), "labels": [0, 1]}, "single", "int64; expected"),
        ({"images": GREY[0], "labels": [0, 1, 0, 1]}, "single", r"4 x 5, uint8; expected"),
        ({"images": np.zeros((2, 3, 8, 80), np.uint8), "labels": [0, 1]}, "single", "so 80 channels"),
        ({"images": GREY[:2], "labels": [[0, 1], [1, 0]]}, "single", "have 2 columns"),
        ({"images": GREY[:2], "labels": [0.5, 1]}, "single", "are float64; expected whole numbers"),
        ({"images": GREY[:2], "labels": [0, 2]}, "multi", "not all 0 or 1"),
        ({"images": GREY[:2], "labels": ["a", "b"]}, "regression", "not all numbers"),
        ({"images": GREY[:2], "labels": [1, 1]}, "single", "the classes are 1 alone"),
        ({"images": GREY[:2], "labels": [4, 5], "class_names": ["a", "b", "c"]}, "single", "3 class names"),
    ],
)
def test_mistakes_are_one_line(write: Write, arrays: dict[str, Any], kind: Any, says: str) -> None:
    file = write(**arrays)
    with pytest.raises(UserError, match=says) as error:
        [NpzArrays(file, None, kind).read(split) for split in NpzArrays(file).splits()]
    assert "expected" in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_masks_that_do_not_fit(write: Write) -> None:
    with pytest.raises(UserError, match="no masks of the split"):
        NpzArrays(write(images=GREY, labels=[0] * 6)).read("all", masks=True)
    with pytest.raises(UserError, match=r"\(6, 5, 4\) uint8, their images \(6, 4, 5\)"):
        NpzArrays(write(images=GREY, masks=GREY.transpose(0, 2, 1))).read("all", masks=True)


def test_damaged_files(write: Write, tmp_path: Path) -> None:
    file = write(images=GREY, labels=[0, 1] * 3)
    content = file.read_bytes()
    for damaged in (content[: len(content) // 2], b"", json.dumps({}).encode()):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"not an \.npz file") as error:
            NpzArrays(file).splits()
        assert "\n" not in str(error.value)
    file.write_bytes(content[:60] + bytes(8) + content[68:])
    with pytest.raises(UserError, match="'images' cannot be read"):
        NpzArrays(file).read("all")
    (tmp_path / "other.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds 2 \.npz files"):
        NpzArrays(tmp_path).splits()


def test_other_byte_order(write: Write) -> None:
    deep = GREY.astype(">u2") * np.array(100, ">u2")
    reader = NpzArrays(write(images=deep.astype(">u2"), masks=GREY.astype(">i4"), labels=np.arange(6) % 2))
    pixels = reader.read("all").pixels
    assert pixels is not None
    np.testing.assert_array_equal(pixels[..., 0].numpy(), deep)
    files = reader.read("all", masks=True).mask_files
    assert files is not None
    assert files.values is not None
    assert files.values.tolist() == GREY.tolist()


def test_numbers_in_one_split_and_names_in_another(write: Write) -> None:
    reader = NpzArrays(
        write(train_images=GREY, train_labels=np.arange(6) % 2, val_images=GREY, val_labels=np.array(list("ababab")))
    )
    with pytest.raises(UserError, match="are numbers, those of another split texts"):
        reader.read("train")
