"""Pascal VOC: equal to a plain reading of the xml, and bad input is told in one line or counted."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from backbones.errors import UserError
from tasks.data.formats.voc import VocFolder, read_voc

Page = Callable[..., str]
Write = Callable[..., Path]


def test_real_folder_equals_the_xml(reference_data: Path) -> None:
    root = reference_data / "bccd"
    folder = VocFolder(root)
    assert folder.splits() == ["test", "train", "trainval", "val"]
    assert VocFolder.recognises(root)
    total = 0
    for split in ("trainval", "test"):
        annotations = folder.read(split)
        stems = (root / "ImageSets/Main" / f"{split}.txt").read_text().split()
        assert [annotations.file(i).stem for i in range(len(annotations))] == stems
        for index, stem in enumerate(stems):
            page = ET.parse(root / "Annotations" / f"{stem}.xml").getroot()
            objects = annotations.objects(index)
            truth = [
                (
                    entry.findtext("name"),
                    [float(entry.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax")],
                )
                for entry in page.iter("object")
            ]
            truth = [(name, box) for name, box in truth if box[2] > box[0] and box[3] > box[1]]
            names = [annotations.label_map.names[label] for label in objects.labels]
            assert list(zip(names, objects.boxes.tolist(), strict=True)) == truth
        total += len(annotations.boxes)
    assert total == 4888 - 2
    assert folder.read("trainval").report.dropped["boxes without area"].count == 2
    assert annotations.label_map.names == ("Platelets", "RBC", "WBC")


def test_classes_are_those_of_all_splits_and_ids_agree(voc_page: Page, write_voc: Write) -> None:
    pages = {"b": voc_page([("dog", 1, 2, 9, 9, 0)]), "a": voc_page([("cat", 1, 2, 9, 9, 0)]), "c": voc_page([])}
    root = write_voc(pages, {"train": ["b", "c"], "val": ["a", "c"], "dog_train": ["b"], "dog_val": ["a"]})
    folder = VocFolder(root)
    assert folder.splits() == ["train", "val"]
    train, val = folder.read("train"), folder.read("val")
    assert train.label_map == val.label_map
    assert (train.label_map.ids, train.label_map.names) == ((1, 2), ("cat", "dog"))
    assert train.image_ids.tolist() == [2, 3]
    assert val.image_ids.tolist() == [1, 3]
    assert train.report.without_boxes == 1


def test_xml_beside_images(voc_page: Page, write_voc: Write) -> None:
    root = write_voc({"a": voc_page([("cat", 1, 2, 9, 9, 0)]), "b": voc_page([])}, flat=True)
    assert VocFolder(root).splits() == ["all"]
    assert read_voc(root, "all").name(1) == "b.jpg"


def test_one_folder_a_split(voc_page: Page, write_voc: Write, tmp_path: Path) -> None:
    write_voc({"a": voc_page([("cat", 1, 2, 9, 9, 0)]), "b": voc_page([])}, flat=True)
    (tmp_path / "set").mkdir()
    (tmp_path / "voc").rename(tmp_path / "set/train")
    write_voc({"a": voc_page([("dog", 1, 2, 9, 9, 0)])}, flat=True)
    (tmp_path / "voc").rename(tmp_path / "set/valid")
    folder = VocFolder(tmp_path / "set")
    assert folder.splits() == ["train", "valid"]
    valid = folder.read("valid")
    assert valid.name(0) == "valid/a.jpg"
    assert valid.label_map.names == ("cat", "dog")
    assert len(folder.read("train")) == 2


def test_difficult_is_crowd_and_coordinates_stand(voc_page: Page, write_voc: Write) -> None:
    page = voc_page([("cat", 1, 2, 9, 10, 1), ("cat", 1.5, 2, 9, 10, 0)])
    annotations = read_voc(write_voc({"a": page}), "all")
    objects = annotations.objects(0)
    assert objects.crowd.tolist() == [True, False]
    assert objects.boxes.tolist() == [[1, 2, 9, 10], [1.5, 2, 9, 10]]
    assert objects.areas.tolist() == [64, 60]


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (("nan", 2, 9, 9), "boxes that are not four finite numbers"),
        (("inf", 2, 9, 9), "boxes that are not four finite numbers"),
        (("x", 2, 9, 9), "boxes that are not four finite numbers"),
        (("", 2, 9, 9), "boxes that are not four finite numbers"),
        ((9, 2, 1, 9), "boxes without area"),
        ((100, 2, 120, 9), "boxes outside their image"),
    ],
)
def test_boxes_that_cannot_be_used_are_dropped(
    voc_page: Page, write_voc: Write, box: tuple[object, ...], reason: str
) -> None:
    root = write_voc({"a": voc_page([("dog", *box, 0), ("cat", 1, 2, 9, 9, 0)])})
    annotations = read_voc(root, "all")
    assert annotations.report.dropped[reason].count == 1
    assert annotations.report.dropped[reason].examples[0].startswith("a.xml")
    assert [annotations.label_map.names[label] for label in annotations.objects(0).labels] == ["cat"]


@pytest.mark.parametrize(("width", "height"), [(0, 0), ("", 40), ("x", 40), ("nan", "nan"), (-3, 40), (63.5, 40)])
def test_a_size_that_is_none_is_unknown(voc_page: Page, write_voc: Write, width: object, height: object) -> None:
    page = voc_page([("cat", 1, 2, 900, 9, 0)], width=width, height=height)
    annotations = read_voc(write_voc({"a": page}), "all")
    assert annotations.size(0) is None
    assert len(annotations.report.mended) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid xml"),
        ("<annotation><object>", "not valid xml"),
        ("<html></html>", "top element is <html>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "document type definition"),
        ("<annotation><object><bndbox/></object></annotation>", "has no <name>"),
        ("<annotation></annotation>", "no xml file names an object"),
    ],
)
def test_mistakes_are_one_line(write_voc: Write, text: str, says: str) -> None:
    root = write_voc({"a": text})
    with pytest.raises(UserError) as error:
        read_voc(root, "all")
    assert says in str(error.value)
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_image_and_missing_annotation(voc_page: Page, write_voc: Write) -> None:
    page = voc_page([("cat", 1, 2, 9, 9, 0)])
    root = write_voc({"a": page, "b": page}, {"train": ["a", "b"], "val": ["a", "gone"]})
    with pytest.raises(UserError, match=r"val\.txt: gone has no xml file .*\(1 of 2"):
        read_voc(root, "val")
    (root / "JPEGImages/b.jpg").unlink()
    with pytest.raises(UserError, match=r"image JPEGImages/old\.jpg is not in .*\(1 of 2 images are missing\)"):
        read_voc(root, "train")


def test_a_file_name_that_leads_out(voc_page: Page, write_voc: Write) -> None:
    root = write_voc({"a": voc_page([("cat", 1, 2, 9, 9, 0)], filename="../../etc/passwd")})
    (root / "JPEGImages/a.jpg").unlink()
    with pytest.raises(UserError, match="leads out of the folder"):
        read_voc(root, "all")


def test_names_with_spaces_in_a_list(voc_page: Page, write_voc: Write) -> None:
    root = write_voc({"a b": voc_page([("cat", 1, 2, 9, 9, 0)]), "c": voc_page([])}, {"train": ["a b", "c  1"]})
    assert len(read_voc(root, "train")) == 2
