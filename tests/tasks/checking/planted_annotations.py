"""Faults of boxes, masks and classes, and of how they fit their images."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tasks.config import Experiment
from tests.tasks.checking.planted import Faults
from tests.tasks.checking.shapes import edit_json, read, read_table, write_image, write_table

ANNOTATIONS = Faults()


@ANNOTATIONS.planted("a class that only validation has", "boxes", "class-only-in-val")
def _only_in_val(config: Experiment, folder: Path) -> None:
    edit_json(
        folder,
        "train",
        lambda content: content.update(annotations=[a for a in content["annotations"] if a["category_id"] != 3]),
    )


@ANNOTATIONS.planted("a list of more classes than there are", "boxes", "class-absent")
def _more_classes(config: Experiment, folder: Path) -> None:
    for split in ("train", "val"):
        edit_json(folder, split, lambda content: content["categories"].append({"id": 9, "name": "star"}))


@ANNOTATIONS.planted("background counted as a class", "masks", "background-class")
def _background(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks").rglob("*.png"):
        write_image(file, read(file) + np.uint8(1))
    (folder / "masks" / "classes.txt").write_text("1 void\n2 disc\n3 square\n4 triangle\n")


@ANNOTATIONS.planted("masks one off the list of classes", "masks", "mask-values-unlisted")
def _masks_off_by_one(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks").rglob("*.png"):
        mask = read(file)
        write_image(file, np.where(mask > 0, mask + 1, 0).astype(np.uint8))


@ANNOTATIONS.planted("a mask of another size", "masks", "mask-unusable")
def _mask_size(config: Experiment, folder: Path) -> None:
    file = folder / "masks" / "masks" / "train" / "train_007.png"
    write_image(file, cv2.resize(read(file), (60, 60), interpolation=cv2.INTER_NEAREST))


@ANNOTATIONS.planted("empty masks", "masks", "nothing-to-score")
def _empty(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks" / "val").glob("*.png"):
        write_image(file, read(file) * np.uint8(0))


@ANNOTATIONS.planted("images resized after they were annotated", "boxes", "image-size")
def _resized(config: Experiment, folder: Path) -> None:
    for file in (folder / "train").glob("train_*.png"):
        write_image(file, cv2.resize(read(file), (96, 96)))


@ANNOTATIONS.planted("corners in place of sizes", "boxes", "boxes-misread")
def _corners(config: Experiment, folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            x, y, w, h = one["bbox"]
            one["bbox"] = [x, y, x + w, y + h]

    for split in ("train", "val"):
        edit_json(folder, split, change)


@ANNOTATIONS.planted("sizes in place of corners", "boxes", "boxes-misread")
def _sizes(config: Experiment, folder: Path) -> None:
    """As Pascal VOC."""
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages").mkdir()
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        content = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        for image in content["images"]:
            shutil.copy(folder / split / image["file_name"], folder / "JPEGImages" / image["file_name"])
            objects = ""
            for one in content["annotations"]:
                if one["image_id"] == image["id"]:
                    corners = zip(("xmin", "ymin", "xmax", "ymax"), one["bbox"], strict=True)
                    box = "".join(f"<{key}>{value}</{key}>" for key, value in corners)
                    objects += f"<object><name>{names[one['category_id']]}</name><bndbox>{box}</bndbox></object>"
            size = "<size><width>64</width><height>64</height><depth>3</depth></size>"
            stem = Path(image["file_name"]).stem
            text = f"<annotation><filename>{image['file_name']}</filename>{size}{objects}</annotation>"
            (folder / "Annotations" / f"{stem}.xml").write_text(text)
        stems = "\n".join(Path(image["file_name"]).stem for image in content["images"])
        (lists / f"{split}.txt").write_text(stems)
    shutil.rmtree(folder / "annotations")


def _scale_boxes(folder: Path, factor: float) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            one["bbox"] = [value * factor for value in one["bbox"]]
            one["area"] *= factor**2

    for split in ("train", "val"):
        edit_json(folder, split, change)


@ANNOTATIONS.planted("boxes as shares of the image", "boxes", "boxes-normalised")
def _normalised(config: Experiment, folder: Path) -> None:
    _scale_boxes(folder, 1 / 64)


@ANNOTATIONS.planted("boxes in pixels of smaller images", "boxes", "boxes-resolution")
def _resolution(config: Experiment, folder: Path) -> None:
    _scale_boxes(folder, 0.5)


@ANNOTATIONS.planted("a box twice", "boxes", "boxes-repeated")
def _repeated(config: Experiment, folder: Path) -> None:
    edit_json(
        folder,
        "train",
        lambda content: content["annotations"].extend(
            [{**one, "id": 1000 + number} for number, one in enumerate(content["annotations"][:5])]
        ),
    )


@ANNOTATIONS.planted("masks shifted", "masks", "annotations-misplaced")
def _shifted(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks" / "train").glob("*.png"):
        write_image(file, np.roll(read(file), (3, 7), (0, 1)))


@ANNOTATIONS.planted("masks mirrored", "masks", "annotations-misplaced")
def _mirrored(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks").rglob("*.png"):
        write_image(file, read(file)[:, ::-1])


@ANNOTATIONS.planted("x and y of boxes exchanged", "boxes", "annotations-misplaced")
def _exchanged(config: Experiment, folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            x, y, w, h = one["bbox"]
            one["bbox"] = [y, x, h, w]

    for split in ("train", "val"):
        edit_json(folder, split, change)


@ANNOTATIONS.planted("annotations of other images", "boxes", "annotations-unrelated")
def _unrelated(config: Experiment, folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            one["image_id"] = one["image_id"] % len(content["images"]) + 1

    edit_json(folder, "train", change)


def _relabel(folder: Path, new: dict[int, int]) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            one["category_id"] = new[one["category_id"]]

    edit_json(folder, "val", change)


@ANNOTATIONS.planted("the names of two classes exchanged, boxes", "boxes", "classes-swapped")
def _swapped(config: Experiment, folder: Path) -> None:
    _relabel(folder, {1: 2, 2: 1, 3: 3})


@ANNOTATIONS.planted("the names of two classes exchanged, masks", "masks", "classes-swapped")
def _swapped_masks(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks" / "val").glob("*.png"):
        write_image(file, np.array([0, 1, 3, 2], np.uint8)[read(file)])


@ANNOTATIONS.planted("the names of two classes exchanged, labels", "labels", "classes-swapped")
def _swapped_labels(config: Experiment, folder: Path) -> None:
    new = {"disc": "triangle", "triangle": "disc", "square": "square"}
    rows = [[*row[:2], new[row[2]] if row[1] == "val" else row[2], row[3]] for row in read_table(folder / "labels.csv")]
    write_table(folder / "labels.csv", rows)


@ANNOTATIONS.planted("categories one off", "boxes", "classes-shifted")
def _one_off(config: Experiment, folder: Path) -> None:
    for split in ("train", "val"):
        edit_json(folder, split, lambda content: content["categories"].append({"id": 0, "name": "wall"}))
    _relabel(folder, {1: 0, 2: 1, 3: 2})


@ANNOTATIONS.planted("a crop smaller than objects", "boxes", "crop-cuts-objects")
def _crop(config: Experiment, folder: Path) -> None:
    config.data.augment.crop = (8, 8)
