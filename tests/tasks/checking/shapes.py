"""Generated data for the checks: discs, squares and triangles, each class of its own colour, on a lit wall.

Drawn in a fraction of a millisecond an image, as boxes (COCO json), masks and labels of images at once.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

CLASSES = ("disc", "square", "triangle")
COLOURS = ((200, 60, 50), (70, 160, 80), (80, 70, 190))
WALL = (190, 165, 140)
Image = npt.NDArray[np.uint8]


def draw(seed: int, size: int) -> tuple[Image, Image, list[list[float]], list[int]]:
    """An image (size, size, 3) RGB, its mask (0 is the wall), and boxes x, y, width, height with classes."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    light = random.uniform(-25, 25) * x + random.uniform(-25, 25) * y + random.uniform(-12, 12)
    texture = cv2.resize(random.normal(0, 9, (size // 3, size // 3)).astype(np.float32), (size, size))
    image = np.array(WALL) + (light + texture)[:, :, None]
    mask = np.zeros((size, size), np.uint8)
    boxes: list[list[float]] = []
    labels: list[int] = []
    wanted = int(random.integers(3, 6))
    for _ in range(20):
        label, side = int(random.integers(3)), int(random.integers(size // 6, size // 4))
        left, top = (int(random.integers(1, size - side - 1)) for _ in range(2))
        window = (slice(top - 1, top + side + 1), slice(left - 1, left + side + 1))
        if len(boxes) == wanted or mask[window].any():
            continue
        shape = _shape(label, side)
        inside = mask[top : top + side, left : left + side]
        inside[shape > 0] = label + 1
        colour = np.array(COLOURS[label]) + random.normal(0, 12, 3)
        patch = image[top : top + side, left : left + side]
        patch[shape > 0] = colour + random.normal(0, 6, (int((shape > 0).sum()), 3))
        boxes.append([left, top, side, side])
        labels.append(label)
    return (image + random.normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8), mask, boxes, labels


def _shape(label: int, side: int) -> Image:
    shape = np.zeros((side, side), np.uint8)
    last = side - 1
    if label == 0:
        cv2.ellipse(shape, (last // 2, last // 2), (last // 2, last // 2), 0, 0, 360, 1, cv2.FILLED)
        shape[-1] = shape[-2] if not shape[-1].any() else shape[-1]
        shape[:, -1] = shape[:, -2] if not shape[:, -1].any() else shape[:, -1]
    elif label == 1:
        shape[:] = 1
    else:
        cv2.fillPoly(shape, [np.array([[0, last], [last, last], [last // 2, 0]])], 1)
    return shape


def write_shapes(folder: Path, train: int = 40, val: int = 16, size: int = 64) -> Path:
    """Write `annotations/instances_SPLIT.json`, `SPLIT/*.png`, `masks/{images,masks}/SPLIT/*.png` and `labels.csv`."""
    (folder / "annotations").mkdir(parents=True)
    rows: list[list[str]] = []
    for split, count, offset in (("train", train, 0), ("val", val, 10_000)):
        for part in (split, f"masks/images/{split}", f"masks/masks/{split}"):
            (folder / part).mkdir(parents=True)
        coco: dict[str, list[Any]] = {"images": [], "annotations": []}
        for number in range(count):
            image, mask, boxes, labels = draw(offset + number, size)
            name = f"{split}_{number:03d}.png"
            write_image(folder / split / name, image)
            write_image(folder / "masks" / "images" / split / name, image)
            write_image(folder / "masks" / "masks" / split / name, mask)
            coco["images"].append({"id": number + 1, "file_name": name, "height": size, "width": size})
            for box, label in zip(boxes, labels, strict=True):
                coco["annotations"].append(
                    {
                        "id": len(coco["annotations"]) + 1, "image_id": number + 1, "category_id": label + 1,
                        "bbox": box, "area": box[2] * box[3], "iscrowd": 0,
                    }
                )  # fmt: skip
            own = CLASSES[number % 3]
            write_image(folder / split / f"portrait_{name}", portrait(offset + number, size, number % 3))
            rows.append([f"{split}/portrait_{name}", split, own, f"patient{offset + number // 2}"])
        coco["categories"] = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(coco))
    write_table(folder / "labels.csv", rows)
    (folder / "masks" / "classes.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(CLASSES, 1)))
    return folder


def portrait(seed: int, size: int, label: int) -> Image:
    """An image with one large object, for labels of images."""
    random = np.random.default_rng(seed + 50_000)
    image = draw(seed, size)[0].astype(np.float64)
    image = np.array(WALL) + 0.25 * (image - np.array(WALL))
    side = int(random.integers(size // 2, 3 * size // 4))
    left, top = (int(random.integers(0, size - side)) for _ in range(2))
    shape = _shape(label, side)
    image[top : top + side, left : left + side][shape > 0] = np.array(COLOURS[label]) + random.normal(0, 12, 3)
    return (image + random.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


def write_image(path: Path, image: npt.NDArray[Any]) -> None:
    """As PNG or whatever its name says; RGB or grey."""
    path.write_bytes(cv2.imencode(path.suffix, image[:, :, ::-1] if image.ndim == 3 else image)[1].tobytes())


def read(path: Path) -> npt.NDArray[Any]:
    """RGB, or grey as it is."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image[:, :, ::-1] if image.ndim == 3 else image


def write_table(path: Path, rows: list[list[str]]) -> None:
    """`labels.csv`."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "split", "label", "patient"], *rows])


def read_table(path: Path) -> list[list[str]]:
    """The rows of it."""
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def edit_json(folder: Path, split: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the annotations of a split."""
    file = folder / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
