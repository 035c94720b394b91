"""Tables of images: every kind of label, columns found or named, and mistakes told with their line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.errors import UserError
from tasks.config import ColumnsConfig, DataConfig
from tasks.data.formats.csv_table import CsvTable
from tasks.data.semantic import semantic_masks
from tasks.data.splits import open_splits
from tasks.data.wanted import Wanted

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a table and images 0.png to 5.png beside it."""

    def build(text: str, name: str = "labels.csv") -> Path:
        root = tmp_path / "set"
        root.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
        for number in range(6):
            Image.fromarray(np.full((4, 5), number, np.uint8)).save(root / f"{number}.png")
        return root

    return build


def labels_of(root: Path, kind: str, split: str = "all", **options: Any) -> tuple[tuple[str, ...], list[Any]]:
    annotations = CsvTable(root, DataConfig(**options), kind).read(split)  # type: ignore[arg-type]
    assert annotations.image_labels is not None
    return annotations.label_map.names, annotations.image_labels.tolist()


def test_the_sample(tiny_data: Path) -> None:
    lines = [line.split(",") for line in (tiny_data / "image_labels.csv").read_text().splitlines()[1:]]
    reader = CsvTable(tiny_data)
    assert reader.splits() == ["train", "val"]
    train = reader.read("train")
    assert train.image_labels is not None
    names = [train.label_map.names[label] for label in train.image_labels.tolist()]
    assert list(zip(train.names, names, strict=True)) == [(line[0], line[2]) for line in lines if line[1] == "train"]
    assert train.file(0).is_file()
    columns = ColumnsConfig(labels=("red_cells", "platelets"))
    found = labels_of(tiny_data, "regression", "val", columns=columns)
    assert found == (
        ("red_cells", "platelets"),
        [[float(line[3]), float(line[5])] for line in lines if line[1] == "val"],
    )
    config = DataConfig(root=tiny_data, format="csv")
    assert len(open_splits(config, 0, Wanted(boxes=False, labels="single"))[0]) == len(train)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_and_columns_of_known_names(write: Write, separator: str) -> None:
    text = "\ufeffFile_Name,Class,extra\r\n0.png,b,1\r\n1.png,a,2\r\n\r\n".replace(",", separator)
    assert labels_of(write(text, "labels.tsv" if separator == "\t" else "labels.csv"), "single") == (("a", "b"), [1, 0])


def test_quoted_cells(write: Write) -> None:
    assert labels_of(write('image,label\n0.png,"b, or\nc"\n1.png,a\n'), "single") == (("a", "b, or\nc"), [1, 0])


def test_unknown_labels(write: Write) -> None:
    root = write("image,label,x,y\n0.png,b,1,0\n1.png,,,1\n2.png,a,0,1\n")
    assert labels_of(root, "single") == (("a", "b"), [1, -1, 0])
    assert "2 classes (a 1, b 1), 1 images without a label" in str(CsvTable(root).read("all").report)
    columns = ColumnsConfig(labels=("x", "y"))
    names, values = labels_of(root, "regression", columns=columns)
    assert names == ("x", "y")
    np.testing.assert_array_equal(values, [[1, 0], [np.nan, 1], [0, 1]])
    assert labels_of(root, "multi", columns=columns) == (("x", "y"), [[1, 0], [0, 1]])
    report = CsvTable(root, DataConfig(columns=columns), "multi").read("all").report
    assert "dropped 1 images whose labels are not known (1.png)" in str(report)


def test_ordinal_labels(write: Write) -> None:
    assert labels_of(write("image,label\n0.png,10\n1.png,2\n"), "ordinal") == (("2", "10"), [1, 0])
    root = write("image,label\n0.png,mild\n1.png,severe\n")
    assert labels_of(root, "ordinal", class_names=("mild", "severe")) == (("mild", "severe"), [0, 1])
    with pytest.raises(UserError, match="order is not known"):
        labels_of(root, "ordinal")


def test_several_labels_in_a_cell(write: Write) -> None:
    root = write("image,labels\n0.png,b|a\n1.png,c; a\n2.png,|\n3.png,\n")
    assert labels_of(root, "multi") == (("a", "b", "c"), [[1, 1, 0], [1, 0, 1], [0, 0, 0]])
    report = CsvTable(root, None, "multi").read("all").report
    assert "3 images, 3 labels (a 2, b 1, c 1), 1 images with none of them; dropped 1" in str(report)


def test_groups_weights_and_splits(write: Write) -> None:
    text = (
        "path,label,set,patient,weight\n0.png,a,train,p1,1\n1.png,b,train,p1,0.5\n2.png,a,train,,2\n3.png,c,val,p1,1\n"
    )
    reader = CsvTable(write(text))
    assert reader.splits() == ["train", "val"]
    train, val = reader.read("train"), reader.read("val")
    assert train.label_map == val.label_map
    assert train.label_map.names == ("a", "b", "c")
    assert train.groups is not None
    assert list(train.groups) == ["p1", "p1", "2.png"]
    assert train.weights is not None
    assert train.weights.tolist() == [1, 0.5, 2]
    messages = open_splits(DataConfig(root=reader.root), 0, Wanted(boxes=False, labels="single"))[2]
    assert "1 groups (p1) are in 'train' and in 'val'" in messages[-1]


def test_a_file_for_each_split(write: Write) -> None:
    write("image,label\n0.png,a\n1.png,b\n", "train.csv")
    write("image,label\n2.png,c\n", "val.csv")
    reader = CsvTable(write("nothing,to do with it\n", "notes.csv"))
    assert CsvTable.recognises(reader.root)
    assert reader.splits() == ["train", "val"]
    assert reader.read("val").label_map.names == ("a", "b", "c")
    assert list(reader.read("val").names) == ["2.png"]
    assert CsvTable(reader.root / "val.csv", None, "multi").read("val").label_map.names == ("c",)


def test_masks(write: Write) -> None:
    root = write("image,mask,label\n0.png,m0.png,a\n1.png,m1.png,b\n2.png,,b\n")
    for number in range(2):
        mask = np.zeros((4, 5), np.uint8)
        mask[number, 2] = 3
        mask[0, 0] = 9
        Image.fromarray(mask).save(root / f"m{number}.png")
    train, val, _ = open_splits(DataConfig(root=root, val_fraction=0.5), 0, Wanted(boxes=False, masks="one"))
    assert train.label_map.ids == (3, 9)
    for split in (train, val):
        expected = np.zeros((4, 5, 1))
        expected[int(split.name(0)[0]), 2] = 1
        expected[0, 0] = 2
        np.testing.assert_array_equal(semantic_masks(split, 0, (4, 5), False), expected)
    assert "dropped 1 images without a mask (2.png)" in str(CsvTable(root).read("all", masks=True).report)


def test_repeated_lines_are_dropped(write: Write) -> None:
    report = CsvTable(write("image,label\n0.png,a\n1.png,b\n0.png,a\n")).read("all").report
    assert (report.images, report.dropped["repeated lines"].examples) == (2, ["line 4"])


@pytest.mark.parametrize(
    ("text", "kind", "options", "says"),
    [
        ("", "single", {}, "the first line is empty"),
        ("image,label\n", "single", {}, "no line below"),
        ("image,image\n", "single", {}, "'image' appears twice"),
        ("image,label\n0.png,a,b\n", "single", {}, r"line 2: 3 cells; expected 2"),
        ('image,label\n0.png,"a\n', "single", {}, "not a table"),
        ("picture,label\n0.png,a\n", "single", {}, "no column called path, image"),
        ("image,kind\n0.png,a\n", "single", {}, "no column called label, class"),
        ("image,kind\n0.png,a\n", "single", {"labels": ("sort",)}, r"no column 'sort', which data\.columns\.labels"),
        ("image,label\n0.png,a\n", "single", {"split": "part"}, r"no column 'part', which data\.columns\.split"),
        ("image,label\n0.png,a\n,b\n", "single", {}, r"line 3: the column 'image' is empty"),
        ("image,label\n0.png,a\n0.png,b\n", "single", {}, r"line 3: 0\.png is also in line 2 with other cells"),
        ("image,label\n0.png,a\n../x.png,b\n", "single", {}, "leads out of the folder"),
        ("image,label\n0.png,a\nx.png,b\n", "single", {}, r"x\.png is not in .*\(1 of 2"),
        ("image,label,split\n0.png,a,all\n1.png,b,\n", "single", {}, r"line 3: the column 'split' is empty"),
        ("image,label\n0.png,4\n1.png,old\n", "regression", {}, r"line 3: label is 'old'; expected a number"),
        ("image,label\n0.png,4\n1.png,inf\n", "regression", {}, r"line 3: label is 'inf'; expected a number"),
        ("image,x,y\n0.png,1,0\n1.png,1,2\n", "multi", {"labels": ("x", "y")}, r"line 3: y is 2; expected 0 or 1"),
        ("image,x,y\n0.png,1,0\n", "single", {"labels": ("x", "y")}, "names 2 columns"),
        ("image,label,weight\n0.png,a,1\n1.png,b,-1\n", "single", {}, r"line 3: weight is '-1'"),
        ("image,label,weight\n0.png,a,0\n1.png,b,0\n", "single", {}, "0 in every line"),
        ("image,label\n0.png,a\n", "single", {}, "the classes are a alone"),
    ],
)
def test_mistakes_are_one_line(write: Write, text: str, kind: Any, options: dict[str, Any], says: str) -> None:
    root = write(text)
    with pytest.raises(UserError, match=says) as error:
        CsvTable(root, DataConfig(columns=ColumnsConfig(**options)), kind).read("all")
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)
    assert "labels.csv" in str(error.value) or str(root) in str(error.value)


def test_tables_that_cannot_be_told_apart(write: Write) -> None:
    write("image,label\n0.png,a\n", "a.csv")
    root = write("image,label\n0.png,a\n", "b.csv")
    assert not CsvTable.recognises(root)
    with pytest.raises(UserError, match=r"2 tables \(a\.csv, b\.csv\)"):
        CsvTable(root).splits()
    (root / "labels.csv").write_bytes(b"image,label\n\xff\xfe.png,a\n")
    with pytest.raises(UserError, match="not a table that can be read"):
        CsvTable(root).splits()


def test_labels_are_flat_memory(write: Write) -> None:
    own = CsvTable(write("image,label\n0.png,a\n1.png,b\n")).read("all").image_labels
    assert own is not None
    assert own.dtype == torch.int64


def test_paths_from_windows(write: Write) -> None:
    root = write("image,label\nin\\0.png,a\nin\\1.png,b\n")
    (root / "in").mkdir()
    for number in range(2):
        (root / f"{number}.png").rename(root / f"in/{number}.png")
    annotations = CsvTable(root).read("all")
    assert annotations.file(1) == root / "in/1.png"
    assert annotations.file(1).is_file()
