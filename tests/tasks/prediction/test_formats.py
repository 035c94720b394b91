"""What `tools/predict.py` writes is read back by our own readers, and by others'."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torchvision.ops import box_convert

from tasks import load_model
from tasks.data.annotations import Annotations
from tasks.data.formats.coco import CocoFolder
from tasks.data.formats.mask_folders import MaskFolders
from tasks.data.formats.voc import VocFolder
from tasks.prediction.found_boxes import FoundBoxes


@pytest.fixture
def images(tiny_data: Path) -> list[Path]:
    return sorted((tiny_data / "val").glob("*.png"))


@pytest.fixture
def found(trained: Path, images: list[Path]) -> list[FoundBoxes]:
    """The boxes of each image."""
    model = load_model(trained, device="cpu")
    boxes = [model(image)["boxes"] for image in images]
    return [own for own in boxes if isinstance(own, FoundBoxes)]


@pytest.fixture
def threshold(found: list[FoundBoxes]) -> float:
    """A score that some of them have and others do not; the run has learned too little for 0.5."""
    return round(float(np.median(np.concatenate([own.scores for own in found]))), 4)


def test_boxes_in_all_formats(
    command, trained: Path, images: list[Path], found: list[FoundBoxes], threshold: float, tmp_path: Path
) -> None:
    out, expected = tmp_path / "out", [own.chosen(own.scores >= threshold) for own in found]
    assert sum(map(len, expected)) > 4
    said = command(
        "predict", trained, *images, "--out", out, "--threshold", threshold, "--formats", "coco", "voc", "yolo", "csv"
    )
    assert said.code == 0, said.error
    names = load_model(trained, device="cpu").description.heads["boxes"].labels.names

    # COCO: by our reader and by pycocotools.
    (out / "boxes").mkdir()
    (out / "coco.json").rename(out / "boxes" / "coco.json")
    for image in images:
        (out / "boxes" / image.name).write_bytes(image.read_bytes())
    coco = CocoFolder(out / "boxes")
    _same_boxes(coco.read(coco.splits()[0]), expected, names)
    assert len(COCO(str(out / "boxes" / "coco.json")).getAnnIds()) == sum(map(len, expected))

    # Pascal VOC: by our reader, which finds images beside their pages.
    for image in images:
        (out / "Annotations" / image.name).write_bytes(image.read_bytes())
    voc = VocFolder(out / "Annotations")
    _same_boxes(voc.read(voc.splits()[0]), expected, names)

    # YOLO: by its definition, through torchvision's conversion.
    assert (out / "classes.txt").read_text().split() == list(names)
    for number, (image, own) in enumerate(zip(images, expected, strict=True), start=1):
        lines = (out / "labels" / f"{image.stem}_{number:05d}.txt").read_text().splitlines()
        rows = torch.tensor([[float(value) for value in line.split()] for line in lines]).reshape(-1, 5)
        assert rows[:, 0].tolist() == own.labels.tolist()
        boxes = box_convert(rows[:, 1:] * 64, "cxcywh", "xyxy").numpy()
        np.testing.assert_allclose(boxes, own.boxes, atol=1e-3)

    # A table: all of them.
    with (out / "predictions.csv").open(newline="") as opened:
        table = list(csv.DictReader(opened))
    assert len(table) > sum(map(len, expected))
    enough = [row for row in table if float(row["score"]) >= threshold]
    assert [row["label"] for row in enough] == [names[label] for own in expected for label in own.labels]
    assert {row["image"] for row in table} <= {str(image) for image in images}


def _same_boxes(read: Annotations, expected: list[FoundBoxes], names: tuple[str, ...]) -> None:
    assert len(read) == len(expected)
    for index, own in enumerate(expected):
        objects = read.objects(index)
        np.testing.assert_allclose(np.asarray(objects.boxes), own.boxes, atol=0.011)
        assert [read.label_map.names[label] for label in objects.labels] == [names[label] for label in own.labels]


def test_masks_are_a_data_set(command, trained_masks: Path, images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = command("predict", trained_masks, *images, "--out", out, "--formats", "masks")
    assert said.code == 0, said.error
    assert not (out / "predictions.json").exists()
    (out / "images").mkdir()
    for number, image in enumerate(images, start=1):
        (out / "images" / f"{image.stem}_{number:05d}.png").write_bytes(image.read_bytes())
    folder = MaskFolders(out)
    read = folder.read(folder.splits()[0], masks=True)
    assert len(read) == len(images)


def test_labels_are_a_table(command, trained_labels: Path, images: list[Path], tmp_path: Path) -> None:
    said = command("predict", trained_labels, *images, "--out", tmp_path, "--formats", "csv", "json")
    assert said.code == 0, said.error
    rows = json.loads((tmp_path / "predictions.json").read_text())
    with (tmp_path / "predictions.csv").open(newline="") as opened:
        table = list(csv.DictReader(opened))
    assert [(row["image"], row["label"]) for row in table] == [(row["file_name"], row["label"]) for row in rows]
    for row, own in zip(table, rows, strict=True):
        assert {name: float(row[f"score {name}"]) for name in own["scores"]} == own["scores"]


def test_boxes_are_asked_of_labels(command, trained_labels: Path, images: list[Path], tmp_path: Path) -> None:
    said = command("predict", trained_labels, *images, "--out", tmp_path, "--formats", "yolo")
    assert "heads with boxes in this model: none; use json or csv" in said.complaint


def test_video(command, trained: Path, images: list[Path], tmp_path: Path) -> None:
    """Frames are decoded and numbered, and the drawn ones are a video of the same length and rate."""
    source = tmp_path / "cells.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 12.0, (64, 64))
    for image in images:
        writer.write(cv2.imread(str(image)))
    writer.release()
    out = tmp_path / "out"
    said = command("predict", trained, source, "--out", out, "--threshold", "0.1")
    assert said.code == 0, said.error
    rows = json.loads((out / "predictions.json").read_text())
    assert {row["file_name"] for row in rows} == {f"{source}[{frame}]" for frame in range(4)}
    (drawn,) = out.glob("*.mp4")
    capture = cv2.VideoCapture(str(drawn))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert [frame.shape for frame in frames] == [(640, 640, 3)] * 4
    still = load_model(trained, device="cpu")(images[0]).draw(threshold=0.1)[:, :, ::-1]
    assert np.abs(frames[0].astype(int) - still).mean() < 20
    assert not list(out.glob("*.jpg"))


def test_a_video_that_is_none_is_left_out(command, trained: Path, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    said = command("predict", trained, tmp_path / "broken.mp4", images[0], "--out", tmp_path / "out")
    assert said.code == 1
    assert "broken.mp4: not a video that can be read" in said.out
    assert "1 could not be read; exit code 1" in said.out


def test_tiles_of_a_large_image(command, trained: Path, images: list[Path], tmp_path: Path) -> None:
    """Four images side by side, in tiles of their size: what is found in each of them."""
    pixels = [cv2.imread(str(image)) for image in images]
    cv2.imwrite(str(tmp_path / "large.png"), np.vstack([np.hstack(pixels[:2]), np.hstack(pixels[2:])]))
    arguments = ["--out", tmp_path / "out", "--formats", "json", "--tile", "64", "--overlap", "0"]
    said = command("predict", trained, tmp_path / "large.png", *arguments)
    assert said.code == 0, said.error
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())
    boxes = np.array([row["bbox"] for row in rows])
    assert (boxes[:, :2] + boxes[:, 2:]).max() > 64
    model = load_model(trained, device="cpu")
    single = [row for image in images for row in model(image).to_coco()]
    assert max(row["score"] for row in rows) == pytest.approx(max(row["score"] for row in single), abs=0.02)
    assert len(rows) > len(single) / 2
    assert "tile is 8; expected at least 32" in command("predict", trained, images[0], "--tile", "8").complaint


def test_coordinates_are_those_that_a_viewer_shows(command, trained: Path, images: list[Path], tmp_path: Path) -> None:
    """A photograph that is to be turned by its EXIF gives the boxes of the turned picture."""
    upright = Image.open(images[0]).convert("RGB")
    tags = Image.Exif()
    tags[0x0112] = 6  # turn clockwise by 90 degrees to show
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=tags)
    model = load_model(trained, device="cpu")
    assert model(tmp_path / "turned.png").to_coco() == model(images[0]).to_coco()
