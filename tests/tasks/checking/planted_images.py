"""Faults of images, and of who is in which split."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tasks.config import Experiment
from tests.tasks.checking.planted import Faults
from tests.tasks.checking.shapes import edit_json, read, read_table, write_image, write_table

IMAGES = Faults()


@IMAGES.planted("a validation image among the training images", "boxes", "image-leaked")
def _leaked(config: Experiment, folder: Path) -> None:
    shutil.copy(folder / "train" / "train_003.png", folder / "val" / "val_005.png")


@IMAGES.planted("one of them in another size and compression", "boxes", "image-nearly-leaked")
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


@IMAGES.planted("a patient on both sides", "labels", "group-on-both-sides")
def _patient(config: Experiment, folder: Path) -> None:
    rows = read_table(folder / "labels.csv")
    patients = [row for row in rows if row[1] == "train"]
    rows[-1][3] = patients[0][3]
    write_table(folder / "labels.csv", rows)


@IMAGES.planted("a truncated image", "boxes", "image-unusable")
def _truncated(config: Experiment, folder: Path) -> None:
    file = folder / "train" / "train_011.png"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@IMAGES.planted("16-bit images read as 8-bit", "labels", "depth-lost")
def _deep(config: Experiment, folder: Path) -> None:
    for file in folder.glob("*/portrait_*.png"):
        write_image(file, read(file).astype(np.uint16) * 16)


@IMAGES.planted("12 bits in a 16-bit range", "labels", "range-unused")
def _dark(config: Experiment, folder: Path) -> None:
    _deep(config, folder)
    config.image.bit_depth = 16


@IMAGES.planted("width and centre of a window in each other's place", "labels", "values-clipped")
def _window(config: Experiment, folder: Path) -> None:
    _deep(config, folder)
    config.image.bit_depth = 16
    config.image.windows = ((3600.0, 40.0),)  # of a centre of 2000 and a width of 3600, one would write (2000, 3600)


@IMAGES.planted("inverted validation images", "labels", "splits-differ")
def _inverted(config: Experiment, folder: Path) -> None:
    for file in (folder / "val").glob("portrait_*.png"):
        write_image(file, 255 - read(file))


@IMAGES.planted("normalisation missing", "labels", "normalisation")
def _normalisation(config: Experiment, folder: Path) -> None:
    config.image.high, config.image.mean, config.image.std = 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@IMAGES.planted("blue and red in each other's place", "labels", "channel-order")
def _bgr(config: Experiment, folder: Path) -> None:
    for file in folder.glob("*/portrait_*.png"):
        write_image(file, read(file)[:, :, ::-1])


@IMAGES.planted("blue and red in each other's place in one split", "labels", "channel-order")
def _bgr_val(config: Experiment, folder: Path) -> None:
    for file in folder.glob("val/portrait_*.png"):
        write_image(file, read(file)[:, :, ::-1])


@IMAGES.planted("EXIF orientation set after annotation", "boxes", "exif-ambiguous")
def _exif(config: Experiment, folder: Path) -> None:
    for file in (folder / "train").glob("train_*.png"):
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(file) as image:
            image.save(file, exif=exif)


@IMAGES.planted("EXIF orientation by which boxes were not turned", "boxes", "annotations-misplaced")
def _exif_turned(config: Experiment, folder: Path) -> None:
    _exif(config, folder)


@IMAGES.planted("the same image under two labels", "labels", "labels-contradict")
def _contradict(config: Experiment, folder: Path) -> None:
    shutil.copy(folder / "train" / "portrait_train_000.png", folder / "train" / "portrait_train_001.png")
