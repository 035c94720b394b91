"""A generated data set that looks like a stained blood smear: something to train on where no data is at hand.

Three classes that differ in shape, colour and texture: red cells (round, pale in the middle), white cells (large, with
a lobed purple nucleus), platelets (small, ragged). They vary in size and overlap; about one image in twenty is empty.
"""

import csv
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from hotcoco import mask as coco_mask

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.formats.coco import CocoFolder
from tasks.data.formats.readers import register_reader
from tasks.data.wanted import LabelKind
from tasks.seeding import derive_seed

VERSION = 1  # raise it when the pictures change, so that an old cache is not taken for the new set
CLASSES = ("red_cell", "white_cell", "platelet")
EMPTY = 0.05  # share of images without cells
Colour = tuple[int, int, int]
Floats = npt.NDArray[Any]


@register_reader("cells")
class CellsFolder(CocoFolder):
    """The generated cells, written when first asked for.

    Args:
        root: folder to write them under; None is the cache (`POLYHEAD_CACHE`, else `~/.cache/polyhead`).

    Attributes:
        table: labels of the images.
    """

    def __init__(
        self, root: Path | None = None, options: DataConfig | None = None, labels: LabelKind = "single"
    ) -> None:
        super().__init__(write_cells(root), options, labels)
        self.table = self.root / "image_labels.csv"


def write_cells(under: Path | None = None, *, seed: int = 0, train: int = 240, val: int = 60, size: int = 128) -> Path:
    """Write the data set unless it is there already, and return its folder.

    It holds `annotations/instances_SPLIT.json` (COCO, with masks), `SPLIT/*.png`, `semantic/SPLIT/*.png` (0 is
    background, else the category id), and `image_labels.csv` (file, split, one label an image, and the number of cells
    of each class). The bytes follow from the arguments. The folder appears under its name only when it is complete.

    Args:
        under: folder to write it under; None is the cache.
        seed: of the pictures.
        train: training images.
        val: validation images.
        size: height and width of an image in pixels; cells grow with it.

    Raises:
        UserError: the folder cannot be written.
    """
    if under is None:
        under = Path(os.environ.get("POLYHEAD_CACHE") or Path.home() / ".cache" / "polyhead")
    folder = under / f"cells-v{VERSION}-seed{seed}-{train}+{val}-{size}px"
    if folder.is_dir():
        return folder
    try:
        under.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".writing-cells-", dir=under))
        try:
            _write(unfinished, seed, {"train": train, "val": val}, size)
            unfinished.chmod(0o755)  # mkdtemp's folders are for their owner alone
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, and wrote the same
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{folder}: the sample data cannot be written ({error.strerror}); set POLYHEAD_CACHE to a folder with "
            "some free space"
        ) from None
    return folder


def _write(folder: Path, seed: int, counts: dict[str, int], size: int) -> None:
    (folder / "annotations").mkdir()
    labels = []
    for split, count in counts.items():
        (folder / split).mkdir()
        (folder / "semantic" / split).mkdir(parents=True)
        coco: dict[str, list[Any]] = {"images": [], "annotations": []}
        for number in range(1, count + 1):
            name = f"{split}_{number:04d}.png"
            image, masks, classes = draw_cells(np.random.default_rng(derive_seed(seed, "cells", split, number)), size)
            semantic = np.zeros((size, size), np.uint8)
            for mask, label in zip(masks, classes, strict=True):
                semantic[mask] = label + 1
                coco["annotations"].append(_annotation(len(coco["annotations"]) + 1, number, label + 1, mask))
            coco["images"].append({"id": number, "file_name": name, "height": size, "width": size})
            (folder / split / name).write_bytes(_png(image[:, :, ::-1]))
            (folder / "semantic" / split / name).write_bytes(_png(semantic))
            labels.append(
                [f"{split}/{name}", split, _image_label(classes), *np.bincount(classes, minlength=3).tolist()]
            )
        categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
        text = json.dumps({"info": {"description": "generated cells"}, **coco, "categories": categories})
        (folder / "annotations" / f"instances_{split}.json").write_text(text)
    with (folder / "image_labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "split", "label", *(f"{name}s" for name in CLASSES)], *labels])


def _annotation(number: int, image: int, category: int, mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    runs = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    box = [float(value) for value in coco_mask.toBbox(runs)]
    segmentation = {"size": list(mask.shape), "counts": runs["counts"].decode("ascii")}
    area = int(mask.sum())
    return {
        "id": number, "image_id": image, "category_id": int(category), "bbox": box, "area": area, "iscrowd": 0,
        "segmentation": segmentation,
    }  # fmt: skip


def _image_label(classes: npt.NDArray[np.int64]) -> str:
    """The rarest kind of cell in the image, as one would label a smear; "empty" without any."""
    return next((CLASSES[label] for label in (1, 2, 0) if label in classes), "empty")


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1])


def draw_cells(
    random: np.random.Generator, size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """One smear.

    Returns:
        (size, size, 3) uint8 RGB, (N, size, size) the visible part of each cell, (N,) class of each, 0 .. 2.
    """
    image = _plasma(random, size)
    owner = np.full((size, size), -1)
    full_areas: list[int] = []
    classes: list[int] = []
    for label in _population(random):
        for _ in range(30):  # tries to find a place
            cell = _Outline(random, size, label)
            free = (owner[cell.window][cell.inside] < 0).mean()
            lost = np.bincount(owner[cell.window][cell.inside] + 1, minlength=len(classes) + 1)[1:]
            left = np.array([(owner == i).sum() for i in range(len(classes))]) - lost
            # Every cell stays mostly visible, under those that come to lie on it.
            if free > 0.75 and all(now >= 0.75 * area for now, area in zip(left, full_areas, strict=True)):
                _PAINTERS[label](random, image[cell.window], cell)
                owner[cell.window][cell.inside] = len(classes)
                full_areas.append(int(cell.inside.sum()))
                classes.append(label)
                break
    image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.35, 0.7) * size / 128)
    image = image * (random.uniform(0.94, 1.03) + random.uniform(-0.025, 0.025, 3)) + random.normal(0, 2.5, image.shape)
    masks = np.array([owner == i for i in range(len(classes))], np.bool_).reshape(-1, size, size)
    return image.round().clip(0, 255).astype(np.uint8), masks, np.array(classes, np.int64)


def _population(random: np.random.Generator) -> list[int]:
    """Classes of the cells of an image, in the order in which they come to lie on one another."""
    empty = random.random() < EMPTY
    counts = (random.integers(4, 10), random.choice([0, 1, 2], p=[0.35, 0.5, 0.15]), random.integers(1, 5))
    return [] if empty else [label for label, count in enumerate(counts) for _ in range(count)]


def _plasma(random: np.random.Generator, size: int) -> Floats:
    """Pale background, unevenly lit."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle, slope = random.uniform(0, 2 * np.pi), random.uniform(0, 16)
    light = slope * (x * np.cos(angle) + y * np.sin(angle)) - 22 * (x**2 + y**2)
    clouds = cv2.resize(random.normal(0, 3, (8, 8)), (size, size), interpolation=cv2.INTER_CUBIC)
    plasma: Floats = np.array([243.0, 232.0, 226.0]) + (light + clouds)[:, :, None]
    return plasma


class _Outline:
    """A cell's shape and place: a circle, stretched, turned and with waves along its edge.

    Attributes:
        window: the part of the image that the cell lies in.
        rho: distance from the centre over the distance of the edge in that direction, for each pixel of the window.
        angle: direction from the centre.
        radius: mean distance of the edge in pixels.
        inside: pixels of the cell.
        alpha: the same with a soft edge, 0 .. 1.
    """

    # Radius in pixels of a 128-pixel image, stretch, waviness: red cell, white cell, platelet.
    RADII = ((9.0, 15.0), (16.5, 22.0), (7.0, 8.5))
    STRETCH = (0.12, 0.10, 0.20)
    WAVES = (0.015, 0.03, 0.07)

    def __init__(self, random: np.random.Generator, size: int, label: int) -> None:
        self.radius = random.uniform(*self.RADII[label]) * size / 128
        reach = self.radius * (1 + self.STRETCH[label] + 3 * self.WAVES[label]) + 2
        # Red cells may be cut by the border, the others lie whole.
        margin = self.radius * 0.6 if label == 0 else reach
        self.y, self.x = random.uniform(margin, size - margin, 2)
        top, left = (max(int(c - reach), 0) for c in (self.y, self.x))
        bottom, right = (min(int(c + reach) + 2, size) for c in (self.y, self.x))
        self.window = (slice(top, bottom), slice(left, right))
        dy, dx = np.mgrid[top:bottom, left:right] - np.array([self.y, self.x])[:, None, None]
        self.distance, self.angle = np.hypot(dx, dy), np.arctan2(dy, dx)
        self.dx, self.dy = dx, dy
        edge = 1 + random.uniform(0, self.STRETCH[label]) * np.cos(2 * (self.angle - random.uniform(0, np.pi)))
        for wave in range(3, 8):
            edge = edge + random.normal(0, self.WAVES[label] * 3 / wave) * np.cos(
                wave * self.angle + random.uniform(0, 6.3)
            )
        self.rho = self.distance / (self.radius * edge.clip(0.6))
        self.alpha = ((1 - self.rho) * self.radius + 0.5).clip(0, 1)
        self.inside = self.rho <= 1


def _blend(patch: Floats, colour: Floats | Colour, alpha: Floats) -> None:
    patch += (np.asarray(colour) - patch) * alpha[:, :, None]


def _step(values: Floats, low: float, high: float) -> Floats:
    t = ((values - low) / (high - low)).clip(0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def _grain(random: np.random.Generator, shape: tuple[int, ...], spread: float) -> Floats:
    blurred: Floats = cv2.GaussianBlur(random.normal(0, spread, shape), (0, 0), 0.8)
    return blurred[:, :, None]


def _paint_red(random: np.random.Generator, patch: Floats, cell: _Outline) -> None:
    rim, pale = np.array([201.0, 92.0, 94.0]), np.array([236.0, 176.0, 166.0])
    tone = random.normal(0, 6, 3)
    ring = _step(cell.rho, 0.1, random.uniform(0.55, 0.75))[:, :, None]
    colour = pale + (rim - pale) * ring + tone - 22 * _step(cell.rho, 0.84, 1.0)[:, :, None]
    _blend(patch, colour, cell.alpha * 0.9)


def _paint_white(random: np.random.Generator, patch: Floats, cell: _Outline) -> None:
    grains = _grain(random, cell.rho.shape, 16)
    cytoplasm = np.array([205.0, 196.0, 226.0]) + grains - 26 * _step(cell.rho, 0.86, 1.0)[:, :, None]
    _blend(patch, cytoplasm, cell.alpha * 0.96)
    lobes = int(random.integers(2, 5))
    start, nucleus = random.uniform(0, 2 * np.pi), np.zeros(cell.rho.shape)
    for lobe in range(lobes):
        turn = start + lobe * random.uniform(1.1, 1.5)
        away, radius = cell.radius * random.uniform(0.3, 0.42), cell.radius * random.uniform(0.3, 0.42)
        distance = np.hypot(cell.dx - away * np.cos(turn), cell.dy - away * np.sin(turn))
        nucleus = np.maximum(nucleus, (radius - distance + 0.5).clip(0, 1))
    purple = np.array([104.0, 58.0, 150.0]) + random.normal(0, 6, 3) + _grain(random, cell.rho.shape, 26)
    _blend(patch, purple, nucleus * cell.alpha * 0.95)


def _paint_platelet(random: np.random.Generator, patch: Floats, cell: _Outline) -> None:
    speckles = _grain(random, cell.rho.shape, 42)
    colour = np.array([158.0, 122.0, 190.0]) + speckles - 30 * (1 - _step(cell.rho, 0.2, 0.8))[:, :, None]
    _blend(patch, colour, cell.alpha * 0.92)


_PAINTERS = (_paint_red, _paint_white, _paint_platelet)
