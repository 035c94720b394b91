"""Faults that people make, planted into generated data and configs: each with the finding that has to name it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tasks.config import Experiment, FasterRCNNConfig, PluginHeadConfig
from tests.tasks.checking.shapes import edit_json, read, read_table, write_image, write_table

Spoil = Callable[[Experiment, Path], object]


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault.

    Attributes:
        kind: of the experiment: boxes, masks or labels.
        code: of the finding that names it.
        spoil: plants it, given the experiment and the folder of its data.
    """

    kind: str
    code: str
    spoil: Spoil


DATA: dict[str, Planted] = {}
TRAINING: dict[str, Planted] = {}


def planted(name: str, kind: str, code: str, among: dict[str, Planted] = DATA) -> Callable[[Spoil], Spoil]:
    def add(spoil: Spoil) -> Spoil:
        among[name] = Planted(kind, code, spoil)
        return spoil

    return add


@planted("a validation image among the training images", "boxes", "image-leaked")
def _leaked(config: Experiment, folder: Path) -> None:
    shutil.copy(folder / "train" / "train_003.png", folder / "val" / "val_005.png")


@planted("one of them in another size and compression", "boxes", "image-nearly-leaked")
def _nearly_leaked(config: Experiment, folder: Path) -> None:
    image = read(folder / "train" / "train_003.png")
    smaller = cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA)
    name = "val_005.jpg"
    (folder / "val" / name).write_bytes(
        cv2.imencode(".jpg", smaller[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
    )

    def change(content: dict[str, Any]) -> None:
        content["images"][5] |= {"file_name": name, "height": 48, "width": 48}
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 6]

    edit_json(folder, "val", change)


@planted("a patient on both sides", "labels", "group-on-both-sides")
def _patient(config: Experiment, folder: Path) -> None:
    rows = read_table(folder / "labels.csv")
    patients = [row for row in rows if row[1] == "train"]
    rows[-1][3] = patients[0][3]
    write_table(folder / "labels.csv", rows)


@planted("a class that only validation has", "boxes", "class-only-in-val")
def _only_in_val(config: Experiment, folder: Path) -> None:
    edit_json(
        folder,
        "train",
        lambda content: content.update(annotations=[a for a in content["annotations"] if a["category_id"] != 3]),
    )


@planted("a list of more classes than there are", "boxes", "class-absent")
def _more_classes(config: Experiment, folder: Path) -> None:
    for split in ("train", "val"):
        edit_json(folder, split, lambda content: content["categories"].append({"id": 9, "name": "star"}))


@planted("background counted as a class", "masks", "background-class")
def _background(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks").rglob("*.png"):
        write_image(file, read(file) + np.uint8(1))
    (folder / "masks" / "classes.txt").write_text("1 void\n2 disc\n3 square\n4 triangle\n")


@planted("masks one off the list of classes", "masks", "mask-values-unlisted")
def _masks_off_by_one(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks").rglob("*.png"):
        mask = read(file)
        write_image(file, np.where(mask > 0, mask + 1, 0).astype(np.uint8))


@planted("a mask of another size", "masks", "mask-unusable")
def _mask_size(config: Experiment, folder: Path) -> None:
    file = folder / "masks" / "masks" / "train" / "train_007.png"
    write_image(file, cv2.resize(read(file), (60, 60), interpolation=cv2.INTER_NEAREST))


@planted("empty masks", "masks", "nothing-to-score")
def _empty(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks" / "val").glob("*.png"):
        write_image(file, read(file) * np.uint8(0))


@planted("a truncated image", "boxes", "image-unusable")
def _truncated(config: Experiment, folder: Path) -> None:
    file = folder / "train" / "train_011.png"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@planted("images resized after they were annotated", "boxes", "image-size")
def _resized(config: Experiment, folder: Path) -> None:
    for file in (folder / "train").glob("train_*.png"):
        write_image(file, cv2.resize(read(file), (96, 96)))


@planted("corners in place of sizes", "boxes", "boxes-misread")
def _corners(config: Experiment, folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            x, y, w, h = one["bbox"]
            one["bbox"] = [x, y, x + w, y + h]

    for split in ("train", "val"):
        edit_json(folder, split, change)


@planted("sizes in place of corners", "boxes", "boxes-misread")
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


@planted("boxes as shares of the image", "boxes", "boxes-normalised")
def _normalised(config: Experiment, folder: Path) -> None:
    _scale_boxes(folder, 1 / 64)


@planted("boxes in pixels of smaller images", "boxes", "boxes-resolution")
def _resolution(config: Experiment, folder: Path) -> None:
    _scale_boxes(folder, 0.5)


@planted("a box twice", "boxes", "boxes-repeated")
def _repeated(config: Experiment, folder: Path) -> None:
    edit_json(
        folder,
        "train",
        lambda content: content["annotations"].extend(
            [{**one, "id": 1000 + number} for number, one in enumerate(content["annotations"][:5])]
        ),
    )


@planted("16-bit images read as 8-bit", "labels", "depth-lost")
def _deep(config: Experiment, folder: Path) -> None:
    for file in folder.glob("*/portrait_*.png"):
        write_image(file, read(file).astype(np.uint16) * 16)


@planted("12 bits in a 16-bit range", "labels", "range-unused")
def _dark(config: Experiment, folder: Path) -> None:
    _deep(config, folder)
    config.image.bit_depth = 16


@planted("width and centre of a window in each other's place", "labels", "values-clipped")
def _window(config: Experiment, folder: Path) -> None:
    _deep(config, folder)
    config.image.bit_depth = 16
    config.image.windows = ((3600.0, 40.0),)  # of a centre of 2000 and a width of 3600, one would write (2000, 3600)


@planted("inverted validation images", "labels", "splits-differ")
def _inverted(config: Experiment, folder: Path) -> None:
    for file in (folder / "val").glob("portrait_*.png"):
        write_image(file, 255 - read(file))


@planted("normalisation missing", "labels", "normalisation")
def _normalisation(config: Experiment, folder: Path) -> None:
    config.image.high, config.image.mean, config.image.std = 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@planted("blue and red in each other's place", "labels", "channel-order")
def _bgr(config: Experiment, folder: Path) -> None:
    for file in folder.glob("*/portrait_*.png"):
        write_image(file, read(file)[:, :, ::-1])


@planted("blue and red in each other's place in one split", "labels", "channel-order")
def _bgr_val(config: Experiment, folder: Path) -> None:
    for file in folder.glob("val/portrait_*.png"):
        write_image(file, read(file)[:, :, ::-1])


@planted("masks shifted", "masks", "annotations-misplaced")
def _shifted(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks" / "train").glob("*.png"):
        write_image(file, np.roll(read(file), (3, 7), (0, 1)))


@planted("masks mirrored", "masks", "annotations-misplaced")
def _mirrored(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks").rglob("*.png"):
        write_image(file, read(file)[:, ::-1])


@planted("x and y of boxes exchanged", "boxes", "annotations-misplaced")
def _exchanged(config: Experiment, folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            x, y, w, h = one["bbox"]
            one["bbox"] = [y, x, h, w]

    for split in ("train", "val"):
        edit_json(folder, split, change)


@planted("annotations of other images", "boxes", "annotations-unrelated")
def _unrelated(config: Experiment, folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            one["image_id"] = one["image_id"] % len(content["images"]) + 1

    edit_json(folder, "train", change)


@planted("EXIF orientation by which boxes were not turned", "boxes", "annotations-misplaced")
def _exif_turned(config: Experiment, folder: Path) -> None:
    _exif(config, folder)


def _relabel(folder: Path, new: dict[int, int]) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            one["category_id"] = new[one["category_id"]]

    edit_json(folder, "val", change)


@planted("the names of two classes exchanged, boxes", "boxes", "classes-swapped")
def _swapped(config: Experiment, folder: Path) -> None:
    _relabel(folder, {1: 2, 2: 1, 3: 3})


@planted("the names of two classes exchanged, masks", "masks", "classes-swapped")
def _swapped_masks(config: Experiment, folder: Path) -> None:
    for file in (folder / "masks" / "masks" / "val").glob("*.png"):
        write_image(file, np.array([0, 1, 3, 2], np.uint8)[read(file)])


@planted("the names of two classes exchanged, labels", "labels", "classes-swapped")
def _swapped_labels(config: Experiment, folder: Path) -> None:
    new = {"disc": "triangle", "triangle": "disc", "square": "square"}
    rows = [[*row[:2], new[row[2]] if row[1] == "val" else row[2], row[3]] for row in read_table(folder / "labels.csv")]
    write_table(folder / "labels.csv", rows)


@planted("categories one off", "boxes", "classes-shifted")
def _one_off(config: Experiment, folder: Path) -> None:
    for split in ("train", "val"):
        edit_json(folder, split, lambda content: content["categories"].append({"id": 0, "name": "wall"}))
    _relabel(folder, {1: 0, 2: 1, 3: 2})


@planted("EXIF orientation set after annotation", "boxes", "exif-ambiguous")
def _exif(config: Experiment, folder: Path) -> None:
    for file in (folder / "train").glob("train_*.png"):
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(file) as image:
            image.save(file, exif=exif)


@planted("a crop smaller than objects", "boxes", "crop-cuts-objects")
def _crop(config: Experiment, folder: Path) -> None:
    config.data.augment.crop = (8, 8)


@planted("the same image under two labels", "labels", "labels-contradict")
def _contradict(config: Experiment, folder: Path) -> None:
    shutil.copy(folder / "train" / "portrait_train_000.png", folder / "train" / "portrait_train_001.png")


@planted("anchors too large for the objects", "boxes", "boxes-unmatched", TRAINING)
def _anchors(config: Experiment, folder: Path) -> None:
    boxes = config.heads["boxes"]
    assert isinstance(boxes, FasterRCNNConfig)
    boxes.anchor_sizes = (64, 96, 128, 256, 512)


@planted("a layer left frozen", "boxes", "frozen-unsaid", TRAINING)
def _frozen_layer(config: Experiment, folder: Path) -> None:
    config.backbone.name = "forgetful_net"


@planted("a backbone that never thaws", "labels", "backbone-never-trains", TRAINING)
def _frozen_backbone(config: Experiment, folder: Path) -> None:
    config.schedule.freeze_backbone_epochs = 100


@planted("frozen parts at random weights", "labels", "weights-doubtful", TRAINING)
def _frozen_random(config: Experiment, folder: Path) -> None:
    config.backbone.name, config.backbone.frozen_stages = "resnet18", 2


@planted("a learning rate a hundred times too high, SGD", "boxes", "lr-too-high", TRAINING)
def _high_sgd(config: Experiment, folder: Path) -> None:
    config.optimizer.lr *= 100


@planted("a learning rate a hundred times too high, AdamW", "masks", "lr-too-high", TRAINING)
def _high_adamw(config: Experiment, folder: Path) -> None:
    config.optimizer.lr *= 100


@planted("a learning rate far too low", "labels", "lr-too-low", TRAINING)
def _low(config: Experiment, folder: Path) -> None:
    config.optimizer.lr /= 1000


@planted("a warm-up longer than the run", "labels", "warmup-too-long", TRAINING)
def _warmup(config: Experiment, folder: Path) -> None:
    config.schedule.warmup_steps = 5000


@planted("the weight of a loss at zero", "boxes", "loss-zero", TRAINING)
def _weight(config: Experiment, folder: Path) -> None:
    boxes = config.heads["boxes"]
    assert isinstance(boxes, FasterRCNNConfig)
    boxes.box_loss_weight = 0


@planted("batch norm with one image at a time", "masks", "batch-norm-alone", TRAINING)
def _batch_norm(config: Experiment, folder: Path) -> None:
    config.data.batch_size = 1


@planted("a head cut off from its backbone", "labels", "no-gradient", TRAINING)
def _detached(config: Experiment, folder: Path) -> None:
    config.heads = {"labels": PluginHeadConfig(name="detached_labels")}


@planted("images too large for the memory", "masks", "memory-short", TRAINING)
def _memory(config: Experiment, folder: Path) -> None:
    config.data.short_side, config.data.long_side, config.data.batch_size = (1024,), 1024, 4096


@planted("inputs a thousand times too large", "labels", "loss-at-start", TRAINING)
def _inputs(config: Experiment, folder: Path) -> None:
    config.image.high, config.backbone.name, config.backbone.norm = 0.1, "resnet18", "frozen_bn"
