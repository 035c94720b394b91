"""COCO json: equal to pycocotools' own reading, and every bad input is told in one line or counted."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pycocotools.coco import COCO

from backbones.errors import UserError
from tasks.data.annotations import Annotations
from tasks.data.formats.coco import CocoFolder, read_coco

Content = dict[str, Any]
Build = Callable[..., Content]
Write = Callable[..., Path]


def read(root: Path, masks: bool = False) -> Annotations:
    return CocoFolder(root).read("train", masks)


def their_mask(theirs: COCO, row: Content) -> npt.NDArray[np.uint8]:
    with warnings.catch_warnings():  # pycocotools has not caught up with numpy 2
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(theirs.annToMask(row))


def assert_equals_pycocotools(annotations: Annotations, file: Path) -> None:
    theirs = COCO(str(file))
    assert [annotations.image_id(i) for i in range(len(annotations))] == list(theirs.imgs)
    assert len(annotations.boxes) == len(theirs.anns)
    for index in range(len(annotations)):
        record = theirs.imgs[annotations.image_id(index)]
        rows = theirs.imgToAnns[record["id"]]
        objects = annotations.objects(index)
        assert annotations.name(index) == record["file_name"]
        assert annotations.size(index) == (record["height"], record["width"])
        assert [annotations.label_map.ids[label] for label in objects.labels] == [a["category_id"] for a in rows]
        xywh = np.array([a["bbox"] for a in rows], float).reshape(-1, 4)
        np.testing.assert_array_equal(objects.boxes[:, :2], xywh[:, :2])
        np.testing.assert_allclose(objects.boxes[:, 2:] - objects.boxes[:, :2], xywh[:, 2:], rtol=0, atol=1e-12)
        np.testing.assert_array_equal(objects.areas, [a["area"] for a in rows])
        np.testing.assert_array_equal(objects.crowd, [bool(a["iscrowd"]) for a in rows])
        masks = annotations.masks(index, (record["height"], record["width"]))
        for mask, row in zip(masks, rows, strict=True):
            np.testing.assert_array_equal(mask, their_mask(theirs, row))


@pytest.mark.parametrize("name", ["coco/annotations/instances_{}2017.json", "nuclei/instances_{}.json"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_real_files_equal_pycocotools(reference_data: Path, name: str, split: str) -> None:
    file = reference_data / name.format(split)
    root = reference_data / name.split("/")[0]
    folder = CocoFolder(root)
    annotations = folder.read(next(s for s in folder.splits() if s.startswith(split)), masks=True)
    assert_equals_pycocotools(annotations, file)
    assert not annotations.report.dropped


def test_small_file_equals_pycocotools(coco_content: Build, write_coco: Write) -> None:
    root = write_coco(coco_content())
    annotations = read(root, masks=True)
    assert_equals_pycocotools(annotations, root / "annotations/instances_train.json")
    assert annotations.label_map.ids == (3, 9)
    assert annotations.report.without_boxes == 1


@pytest.mark.parametrize(
    ("json_file", "images", "split"),
    [
        ("annotations/instances_train2017.json", "train2017", "train2017"),
        ("annotations/instances_train2017.json", "images", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017", "train2017"),
        ("instances_train.json", "train", "train"),
        ("train/_annotations.coco.json", "train", "train"),
        ("labels.json", "images", "labels"),
        ("labels.json", ".", "labels"),
    ],
)
def test_layouts(coco_content: Build, write_coco: Write, json_file: str, images: str, split: str) -> None:
    root = write_coco(coco_content(), json_file, images)
    assert CocoFolder.recognises(root)
    folder = CocoFolder(root)
    assert folder.splits() == [split]
    annotations = folder.read(split)
    assert len(annotations) == 6
    assert annotations.file(0).is_file()


def test_only_instances_are_splits(coco_content: Build, write_coco: Write) -> None:
    root = write_coco(coco_content())
    (root / "annotations/captions_train.json").write_text("{}")
    assert CocoFolder(root).splits() == ["train"]


def change(path: str, value: Any) -> Callable[[Content], None]:
    """A mistake: sets `images.0.id` and the like; None deletes."""

    def apply(content: Content) -> None:
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
        target: Any = content
        for key in parents:
            target = target[key]
        if value is None:
            del target[last]
        else:
            target[last] = value

    return apply


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (change("categories", None), "'categories' is missing"),
        (change("images", {"a": 1}), "'images' is a dict"),
        (change("images.0", 5), "images[0] is 5"),
        (change("images.1.id", "7"), 'id of images[1] is "7"'),
        (change("images.1.id", 1e400), "id of images[1] is Infinity"),
        (change("images.1.id", 2**70), "id of images[1]"),
        (change("images.0.file_name", ""), "file_name of images[0]"),
        (change("images.1.id", 7), "image id 7 stands for image_0.png and image_1.png"),
        (change("images.1.file_name", "gone.png"), "image gone.png is not in"),
        (change("images.1.file_name", "../up.png"), "'../up.png' leads out of the folder"),
        (change("images.1.file_name", "/etc/passwd"), "'/etc/passwd' leads out"),
        (change("images.1.file_name", "C:\\x.png"), "leads out"),
        (change("images.1.file_name", "a\x00.png"), "leads out"),
        (change("categories", []), "list of categories is empty"),
        (change("categories.0.id", 3), "category id 3 appears twice"),
        (change("categories.0.name", "cat"), "category name cat appears twice"),
        (change("categories.0.name", 5), "name of categories[0] is 5"),
        (change("annotations.4.category_id", 4), "category_id of annotation 104 (annotations[4]) is 4"),
        (change("annotations.4.category_id", [1]), "(annotations[4]) is [1]"),
    ],
)
def test_mistakes_are_one_line(
    coco_content: Build, write_coco: Write, mistake: Callable[[Content], None], says: str
) -> None:
    content = coco_content()
    root = write_coco(content)
    mistake(content)
    file = root / "annotations/instances_train.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        read(root)
    assert says in str(error.value)
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)
    assert str(root) in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not valid json"),
        (b'{"images": [{"id": 1, "file_na', "cut off"),
        (b"\xff\xfe\x00", "not valid json"),
        (b"[" * 100_000, "not valid json"),
        (b"[1, 2]", "not COCO: the top level is a list"),
        (b'"x"', "not COCO: the top level is a str"),
        (b"{}", "'images' is missing"),
    ],
)
def test_files_that_are_not_coco(tmp_path: Path, text: bytes, says: str) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(text)
    with pytest.raises(UserError) as error:
        read_coco(file, tmp_path, "x")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_coco(tmp_path / "x.json", tmp_path, "x")


def test_missing_images_are_counted(coco_content: Build, write_coco: Write) -> None:
    root = write_coco(coco_content())
    for i in (2, 4):
        (root / f"train/image_{i}.png").unlink()
    with pytest.raises(UserError, match=r"image image_2\.png is not in .*train \(2 of 6 images are missing\)"):
        read(root)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_that_leaves_the_folder(coco_content: Build, write_coco: Write, tmp_path: Path, what: str) -> None:
    content = coco_content(2)
    root = write_coco(content)
    outside = tmp_path / "secret"
    outside.mkdir()
    (root / "train/image_1.png").rename(outside / "image_1.png")
    if what == "file":
        os.symlink(outside / "image_1.png", root / "train/image_1.png")
    else:
        os.symlink(outside, root / "train/sub")
        content["images"][1]["file_name"] = "sub/image_1.png"
        (root / "annotations/instances_train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"symbolic link to .*outside the folder"):
        read(root)


def test_a_link_to_the_image_folder_is_fine(coco_content: Build, write_coco: Write, tmp_path: Path) -> None:
    root = write_coco(coco_content())
    (root / "train").rename(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", root / "train")
    assert len(read(root)) == 6


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([NAN, 1, 5, 5], "boxes that are not four finite numbers"),
        ([1, 1, INF, 5], "boxes that are not four finite numbers"),
        ([1e308, 1, 1e308, 5], "boxes that are not four finite numbers"),
        ([1, 1, 5], "boxes that are not four finite numbers"),
        (["1", "1", "5", "5"], "boxes that are not four finite numbers"),
        ([1, "x", 5, 5], "boxes that are not four finite numbers"),
        ([10**400, 1, 5, 5], "boxes that are not four finite numbers"),
        ("box", "boxes that are not four finite numbers"),
        (None, "boxes that are not four finite numbers"),
        ([[1], 1, 5, 5], "boxes that are not four finite numbers"),
        ([1, 1, 0, 5], "boxes without area"),
        ([1, 1, -4, 5], "boxes without area"),
        ([70, 1, 5, 5], "boxes outside their image"),
        ([-9, 1, 5, 5], "boxes outside their image"),
    ],
)
@pytest.mark.parametrize("masks", [False, True])
def test_boxes_that_cannot_be_used_are_dropped(
    coco_content: Build, write_coco: Write, box: Any, reason: str, masks: bool
) -> None:
    content = coco_content()
    content["annotations"][0]["bbox"] = box
    annotations = read(write_coco(content), masks)
    finding = annotations.report.dropped[reason]
    assert finding.count == 1
    assert finding.examples[0].startswith("annotation 100 of image_0.png")
    assert annotations.report.boxes == 9
    assert annotations.objects(0).labels.tolist() == [1]
    assert "dropped 1 boxes" in str(annotations.report)
    assert "\n" not in str(annotations.report)


def test_boxes_far_outside_are_clipped_and_near_ones_left_alone(coco_content: Build, write_coco: Write) -> None:
    content = coco_content()
    content["annotations"][0]["bbox"] = [-20, 5, 100, 10]
    content["annotations"][1]["bbox"] = [60, 30, 4.5, 10.25]
    annotations = read(write_coco(content))
    assert annotations.objects(0).boxes.tolist() == [[0, 5, 64, 15], [60, 30, 64.5, 40.25]]
    assert annotations.report.mended["boxes clipped to their image"].count == 1


def test_repeated_and_stray_entries_are_reported(coco_content: Build, write_coco: Write) -> None:
    content = coco_content()
    content["images"].append(dict(content["images"][0]))
    content["annotations"].append(dict(content["annotations"][0]))
    content["annotations"].append({**content["annotations"][0], "bbox": [20, 20, 5, 5]})
    content["annotations"].append({**content["annotations"][1], "id": 999, "image_id": 12345})
    annotations = read(write_coco(content))
    report = annotations.report
    assert report.dropped["repeated images"].count == 1
    assert report.dropped["repeated annotations"].examples == ["id 100"]
    assert report.mended["annotations renumbered, their id was taken"].count == 1
    assert report.dropped["annotations of an image that is not listed"].count == 1
    assert (report.images, report.boxes) == (6, 11)


def test_unusable_outlines_are_reported_and_replaced_by_the_box(coco_content: Build, write_coco: Write) -> None:
    content = coco_content()
    rows = content["annotations"]
    rows[0]["segmentation"] = [[1, 2, 3, 4]]
    rows[1]["segmentation"] = {"size": [40, 64], "counts": [3, 4]}
    rows[2]["segmentation"] = {"size": [1, 1], "counts": [0, 1]}
    rows[3]["segmentation"] = {"size": [60, 36], "counts": "~~~~"}
    rows[4]["segmentation"] = [["a", 2, 3, 4, 5, 6]]
    rows[5]["segmentation"] = {"size": [40, 64], "counts": [10, 20, 40 * 64 - 30]}
    rows[6]["segmentation"] = {"size": "x", "counts": None}
    del rows[7]["segmentation"]
    annotations = read(write_coco(content), masks=True)
    assert sum(finding.count for finding in annotations.report.dropped.values()) == 6
    mask = annotations.masks(0, (40, 64))[0]
    assert mask.sum() == 10 * 12
    assert mask[3:15, 2:12].all()
    assert annotations.masks(2, (40, 64))[1].sum() == 20


def test_missing_sizes_are_unknown(coco_content: Build, write_coco: Write) -> None:
    content = coco_content()
    root = write_coco(content)
    del content["images"][0]["height"]
    content["images"][1]["width"] = "36"
    content["images"][2]["width"] = 0
    (root / "annotations/instances_train.json").write_text(json.dumps(content))
    annotations = read(root)
    assert [annotations.size(i) for i in range(4)] == [None, None, None, (40, 64)]
    assert annotations.report.mended["images without a size, taken from the file when it is loaded"].count == 3


def test_paths_from_windows(coco_content: Build, write_coco: Write) -> None:
    content = coco_content()
    root = write_coco(content)
    before = CocoFolder(root).read("train")
    (before.root / "in").mkdir()
    for index in range(len(before)):
        before.file(index).rename(before.root / "in" / before.name(index))
    for image in content["images"]:
        image["file_name"] = "in\\" + image["file_name"]
    next(root.glob("annotations/*.json")).write_text(json.dumps(content))
    annotations = CocoFolder(root).read("train")
    assert all(annotations.file(index).is_file() for index in range(len(annotations)))
