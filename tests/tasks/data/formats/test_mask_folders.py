"""Folders of masks: layouts, classes, and mistakes told in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.formats.mask_folders import MaskFolders
from tasks.data.semantic import semantic_masks
from tasks.data.splits import open_splits
from tasks.data.wanted import Wanted

Write = Callable[..., Path]
Array = np.ndarray[Any, Any]
SIZE = (4, 5)
MASKS = Wanted(boxes=False, masks="one")


def mask(*values: int) -> Array:
    """A mask that begins with these values."""
    array = np.zeros(20, np.uint8)
    array[: len(values)] = values
    return array.reshape(SIZE)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes arrays (or grey images for None) as files, and returns their root."""

    def build(files: dict[str, Array | None]) -> Path:
        for name, content in files.items():
            file = tmp_path / "set" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((*SIZE, 3), np.uint8) if content is None else content).save(file)
        return tmp_path / "set"

    return build


def first(annotations: Annotations, index: int = 0, overlapping: bool = False) -> list[int]:
    """The first three pixels of a mask."""
    planes = semantic_masks(annotations, index, SIZE, overlapping)
    return planes.reshape(-1, planes.shape[2])[:3].squeeze().tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("images", "masks", "splits"),
    [
        ("images", "masks", ["all"]),
        ("image", "label", ["all"]),
        ("imgs", "Mask", ["all"]),
        ("JPEGImages", "SegmentationClass", ["all"]),
        ("images/train", "masks/train", ["train"]),
        ("valid/images", "valid/labels", ["valid"]),
        ("images/patient", "masks/patient", ["all"]),
    ],
)
def test_layouts(write: Write, images: str, masks: str, splits: list[str]) -> None:
    root = write(
        {f"{images}/b.jpg": None, f"{images}/a.jpg": None, f"{masks}/a.png": mask(1, 2), f"{masks}/b.png": mask(0, 2)}
    )
    assert MaskFolders.recognises(root)
    reader = MaskFolders(root)
    assert reader.splits() == splits
    annotations = reader.read(splits[0])
    assert list(annotations.names) == [f"{images}/a.jpg", f"{images}/b.jpg"]
    assert (annotations.label_map.ids, annotations.label_map.names) == ((1, 2), ("1", "2"))
    assert [first(annotations, 0), first(annotations, 1)] == [[1, 2, 0], [0, 2, 0]]


def test_classes_are_those_of_all_splits(write: Write) -> None:
    files = {
        "train/images/a.png": None,
        "train/masks/a.png": mask(7),
        "val/images/b.png": None,
        "val/masks/b.png": mask(3),
    }
    train, val, messages = open_splits(DataConfig(root=write(files)), 0, MASKS)
    assert train.label_map == val.label_map
    assert train.label_map.ids == (3, 7)
    assert [first(train), first(val)] == [[2, 0, 0], [1, 0, 0]]
    assert "1 images, masks of 2 classes (3=3, 7=7)" in messages[0]


@pytest.mark.parametrize("ending", ["_mask", "_seg", "_label", "_segmentation"])
def test_endings_of_masks(write: Write, ending: str) -> None:
    files: dict[str, Array | None] = {}
    for number in range(3):
        files |= {f"images/{number}.png": None, f"masks/{number}{ending}.png": mask(number)}
    annotations = MaskFolders(write(files)).read("all")
    assert [first(annotations, index)[0] for index in range(3)] == [0, 1, 2]


def test_real_slices(reference_data: Path) -> None:
    train, val, messages = open_splits(DataConfig(root=reference_data / "isbi2012"), 0, MASKS)
    assert (len(train), len(val)) == (24, 6)
    assert (train.label_map.ids, train.label_map.names) == ((255,), ("foreground",))
    assert "30 images, masks of 1 class (255=foreground)" in messages[-1]
    for index in range(3):
        truth = np.asarray(Image.open(reference_data / "isbi2012/label" / Path(val.name(index)).name))
        np.testing.assert_array_equal(semantic_masks(val, index, (512, 512), False)[:, :, 0], truth == 255)


def test_a_palette_gives_its_indices(write: Write) -> None:
    root = write({"images/a.png": None, "images/b.png": None})
    (root / "masks").mkdir()
    for name, values in (("a", mask(1, 255)), ("b", mask(0, 20))):
        image = Image.fromarray(values)
        image.putpalette([(7 * index) % 256 for index in range(768)])
        assert image.mode == "P"
        image.save(root / f"masks/{name}.png")
    annotations = MaskFolders(root, DataConfig(ignored_value=255)).read("all")
    assert annotations.label_map.ids == (1, 20)
    assert [first(annotations, index) for index in range(2)] == [[1, 255, 0], [0, 2, 0]]
    told = MaskFolders(root).read("all")
    assert told.label_map.ids == (1, 20, 255)
    assert "the value 255 in masks counts as a class; set data.ignored_value to 255" in str(told.report)
    assert "255 in masks" not in str(annotations.report)


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "RGBA", "LA"])
def test_a_black_and_white_mask_of_any_kind(write: Write, mode: str) -> None:
    root = write({"images/a.png": None})
    (root / "masks").mkdir()
    image = Image.fromarray(mask(0, 255))
    (Image.fromarray(mask(0, 255).astype(np.uint16)) if mode == "I;16" else image.convert(mode)).save(
        root / "masks/a.png"
    )
    annotations = MaskFolders(root).read("all")
    assert annotations.label_map.ids == ((0xFFFFFF,) if "RGB" in mode else (255,))
    assert annotations.label_map.names == ("foreground",)
    assert first(annotations) == [0, 1, 0]


def test_large_values_of_16_bits(write: Write) -> None:
    values = mask().astype(np.uint16)
    values[0, :2] = 300, 4000
    annotations = MaskFolders(write({"images/a.png": None, "masks/a.tif": values})).read("all")
    assert annotations.label_map.ids == (300, 4000)
    assert first(annotations) == [1, 2, 0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.csv", "name,r,g,b\nbackground,0,0,0\ntumour,255,0,0\nvessel,0,0,255\n"),
        ("classes.csv", "r,g,b,name\n0,0,0,background\n255,0,0,tumour\n0,0,255,vessel\n"),
        ("classes.txt", "255,0,0,tumour\n0 0 255 vessel\n"),
        ("classes.json", json.dumps({"tumour": [255, 0, 0], "vessel": [0, 0, 255]})),
        (
            "classes.json",
            json.dumps([{"name": "tumour", "color": [255, 0, 0]}, {"name": "vessel", "color": [0, 0, 255]}]),
        ),
    ],
)
def test_colours(write: Write, name: str, text: str) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[0, :3] = (255, 0, 0), (0, 0, 255), (9, 9, 9)
    root = write({"images/a.png": None, "masks/a.png": colours})
    assert MaskFolders(root).read("all").label_map.names == ("#0000ff", "#090909", "#ff0000")
    (root / name).write_text(text)
    annotations = MaskFolders(root).read("all")
    assert (annotations.label_map.ids, annotations.label_map.names) == ((0xFF0000, 0x0000FF), ("tumour", "vessel"))
    assert first(annotations) == [1, 2, 0]
    assert open_splits(DataConfig(root=write({"images/b.png": None, "masks/b.png": colours})), 0, MASKS)[0].label_map


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "1 nucleus\n4: blood cell\n"),
        ("classes.txt", "0,background\n1,nucleus\n4,blood cell"),
        ("classes.csv", "id,name\n1,nucleus\n4,blood cell\n255,void\n"),
        ("classes.csv", "1,nucleus\n4,blood cell\n"),
        ("classes.json", json.dumps({"1": "nucleus", "4": "blood cell"})),
        ("classes.json", json.dumps([{"id": 1, "name": "nucleus"}, {"id": 4, "name": "blood cell"}])),
    ],
)
def test_class_lists(write: Write, name: str, text: str) -> None:
    root = write({"images/a.png": None, "masks/a.png": mask(4, 1, 9)})
    (root / name).write_text(text)
    annotations = MaskFolders(root, DataConfig(ignored_value=255)).read("all")
    assert (annotations.label_map.ids, annotations.label_map.names) == ((1, 4), ("nucleus", "blood cell"))
    assert first(annotations) == [2, 1, 0]


def test_names_alone(write: Write) -> None:
    root = write({"images/a.png": None, "masks/a.png": mask(1, 2)})
    for text in ("cat\ndog\n", "background\ncat\ndog\n"):
        (root / "classes.txt").write_text(text)
        label_map = MaskFolders(root).read("all").label_map
        assert (label_map.ids, label_map.names) == ((1, 2), ("cat", "dog"))
    reordered = MaskFolders(root, DataConfig(class_names=("dog", "cat"))).read("all")
    assert (reordered.label_map.ids, first(reordered)) == ((2, 1), [2, 1, 0])
    (root / "classes.txt").unlink()
    assert MaskFolders(root, DataConfig(class_names=("x", "y"))).read("all").label_map.names == ("x", "y")


def test_a_folder_for_each_class(write: Write) -> None:
    files = {
        "images/a.png": None, "images/b.png": None, "images/c.png": None,
        "masks/red/a.png": mask(255, 255), "masks/blue/a.png": mask(0, 1, 7), "masks/red/b_mask.png": mask(3),
    }  # fmt: skip
    root = write(files)
    annotations = MaskFolders(root).read("all")
    assert annotations.label_map.names == ("blue", "red")
    assert first(annotations, 0, overlapping=True) == [[0, 1], [1, 1], [1, 0]]
    assert first(annotations, 1, overlapping=True) == [[0, 1], [0, 0], [0, 0]]
    assert annotations.report.dropped["images without a mask"].examples == ["images/c.png"]
    chosen = MaskFolders(root, DataConfig(class_names=("red", "blue"))).read("all").select([1, 0], "x")
    assert chosen.label_map.names == ("red", "blue")
    assert first(chosen, 1, overlapping=True) == [[1, 0], [1, 1], [0, 1]]
    assert first(chosen, 0, overlapping=True) == [[1, 0], [0, 0], [0, 0]]
    single = write({"one/images/a.png": None, "one/masks/cell/a.png": mask(0, 255)}) / "one"
    assert MaskFolders(single).read("all").label_map.names == ("cell",)
    assert first(MaskFolders(single).read("all")) == [0, 1, 0]


def test_lists_of_pascal_voc(write: Write) -> None:
    files = {f"JPEGImages/{stem}.jpg": None for stem in "abc"}
    root = write(files | {f"SegmentationClass/{stem}.png": mask(1) for stem in "ab"})  # type: ignore[operator]
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("b\n")
    (lists / "val.txt").write_text("a\n")
    reader = MaskFolders(root)
    assert reader.splits() == ["train", "val"]
    assert list(reader.read("train").names) == ["JPEGImages/b.jpg"]
    (lists / "val.txt").write_text("a\nz\n")
    with pytest.raises(UserError, match=r"val\.txt: there is no image z \(1 of 2"):
        reader.read("val")


def test_pages_of_a_stack(write: Write) -> None:
    root = write({"images/a.png": None, "masks/a.png": mask(2)})
    for folder, values in (("images", [0, 0, 0]), ("masks", [1, 2, 3])):
        pages = [Image.fromarray(mask(value)) for value in values]
        pages[0].save(root / f"{folder}/stack.tif", save_all=True, append_images=pages[1:])
    annotations = MaskFolders(root).read("all")
    assert annotations.frames is not None
    assert [first(annotations, index)[0] for index in range(4)] == [2, 1, 2, 3]
    Image.fromarray(mask(1)).save(root / "masks/stack.tif")
    with pytest.raises(UserError, match="holds 1 masks, its image more"):
        first(MaskFolders(root).read("all"), 3)


def test_slices_of_a_volume(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (4, 5, 6)).astype(np.uint8)
    for folder, values in (("images", random.normal(size=(4, 5, 6)).astype(np.float32)), ("masks", labels)):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / folder / "scan.nii.gz")
    annotations = MaskFolders(tmp_path).read("all")
    assert annotations.label_map.ids == (1, 2)
    assert len(annotations) == 6
    for index in range(6):
        # From front to back and from the patient's right to the left.
        expected = labels[::-1, ::-1, index].T
        np.testing.assert_array_equal(semantic_masks(annotations, index, (5, 4), False)[:, :, 0], expected)


def test_what_does_not_pair_is_counted(write: Write) -> None:
    files = {"images/a.png": None, "images/b.png": None, "masks/a.png": mask(1), "masks/c.png": mask(1)}
    report = MaskFolders(write(files)).read("all").report
    assert str(report).endswith(
        "1 images, masks of 1 class (1=foreground); dropped 1 images without a mask (images/b.png); "
        "dropped 1 masks without an image (masks/c.png)"
    )


@pytest.mark.parametrize(
    ("files", "options", "says"),
    [
        ({"images/a.png": None, "masks/b.png": mask(1)}, {}, "no image has a mask in"),
        ({"images/a.png": None, "masks/a.jpg": mask(1)}, {}, "is stored as JPEG"),
        ({"images/a.png": None, "masks/a.png": mask()}, {}, "all masks are empty"),
        ({"images/a.png": None, "images/a.jpg": None, "masks/a.png": mask(1)}, {}, "differ in their ending alone"),
        ({"images/a.png": None, "masks/a.png": mask(1, 2)}, {"class_names": ("x",)}, "1 names for 2 classes"),
        ({"images/a.png": None, "masks/a.tif": np.full(SIZE, 0.5, np.float32)}, {}, "holds fractions"),
    ],
)
def test_mistakes_are_one_line(write: Write, files: dict[str, Any], options: dict[str, Any], says: str) -> None:
    root = write(files)
    with pytest.raises(UserError, match=says) as error:
        MaskFolders(root, DataConfig(**options)).read("all")
    assert "expected" in str(error.value)
    assert str(root) in str(error.value)
    assert "\n" not in str(error.value)


def test_masks_that_are_photographs_or_instances(write: Write) -> None:
    values = np.arange(400, dtype=np.uint16).reshape(20, 20)
    with pytest.raises(UserError, match=r"more than 254 values; expected one for each class.*a number for each object"):
        MaskFolders(write({"images/a.png": None, "masks/a.png": values})).read("all")


def test_a_mask_of_another_size_or_a_damaged_one(write: Write) -> None:
    root = write({"images/a.png": None, "masks/a.png": mask(1)})
    annotations = MaskFolders(root).read("all")
    with pytest.raises(UserError, match=r"a\.png: the mask is 5 x 4 pixels \(width x height\), its image 6 x 4"):
        semantic_masks(annotations, 0, (4, 6), False)
    file = root / "masks/a.png"
    file.write_bytes(file.read_bytes()[:45])
    with pytest.raises(UserError, match=r"a\.png: not a mask that can be read") as error:
        first(annotations)
    assert "\n" not in str(error.value)
    file.unlink()
    with pytest.raises(UserError, match=r"a\.png: is missing"):
        first(annotations)
    Image.fromarray(mask(1)).save(root / "masks/b.jpg")
    (root / "masks/b.jpg").rename(file)
    with pytest.raises(UserError, match="stored as JPEG"):
        first(annotations)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("classes.txt", "1 a\nb\n", "the line 'b'"),
        ("classes.txt", "1 a\n1 b\n", "id 1 appears twice"),
        ("classes.txt", "300,0,0 a\n", r"the value \('300', '0', '0'\)"),
        ("classes.txt", "", "0 classes"),
        ("classes.csv", "name,size\na,1\n", "the columns are name, size"),
        ("classes.csv", "name,id\na,x\n", "the value 'x'"),
        ("classes.json", "[1]", "expected an object"),
        ("classes.json", "{", "cannot be read"),
        ("classes.json", '{"a": [1, 2]}', r"the value \[1, 2\]"),
    ],
)
def test_class_lists_that_cannot_be_used(write: Write, name: str, text: str, says: str) -> None:
    root = write({"images/a.png": None, "masks/a.png": mask(1)})
    (root / name).write_text(text)
    with pytest.raises(UserError, match=says) as error:
        MaskFolders(root).read("all")
    assert str(root / name) in str(error.value)
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_names_with_spaces_in_a_list(write: Write) -> None:
    root = write({"images/a b.png": None, "images/c.png": None, "masks/a b.png": mask(1), "masks/c.png": mask(1)})
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("a b\nc\n")
    assert list(MaskFolders(root).read("train").names) == ["images/a b.png", "images/c.png"]


@pytest.mark.parametrize(
    ("content", "shown"), [(mask(255), "255"), (np.stack([mask(1)] * 3, 2), "#010101"), (mask(1), None), (mask(), None)]
)
def test_listed_classes_that_no_mask_holds(write: Write, content: Array, shown: str | None) -> None:
    root = write({"images/a.png": None, "masks/a.png": content})
    (root / "classes.txt").write_text("1 nucleus\n")
    if shown is None:
        assert MaskFolders(root).read("all").label_map.names == ("nucleus",)
        return
    with pytest.raises(UserError, match=f"lists 1=nucleus, but the masks hold {shown} and none") as error:
        MaskFolders(root).read("all")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("background", ["background", "_background_", "__background__"])
def test_names_that_begin_with_the_background(write: Write, background: str) -> None:
    root = write({"images/a.png": None, "masks/a.png": mask(1, 2)})
    (root / "classes.txt").write_text(f"{background}\ncat\ndog\n")
    label_map = MaskFolders(root).read("all").label_map
    assert (label_map.ids, label_map.names) == ((1, 2), ("cat", "dog"))


def test_a_mask_that_holds_no_number(write: Write) -> None:
    root = write({"images/a.png": None, "masks/a.tif": np.full(SIZE, np.nan, np.float32)})
    with pytest.raises(UserError, match="holds fractions"):
        MaskFolders(root).read("all")
