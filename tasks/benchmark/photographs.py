"""Generated JPEG files that are as hard to decode as photographs, with boxes, as a COCO folder."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

HEIGHT, WIDTH = 480, 640
BOXES = 8  # an image
QUALITY = 90
STEEPNESS = 1.5  # how much stronger a scale is than the next finer one; files then have about 75 kB


def write_photographs(under: Path, images: int) -> Path:
    """`under/photographs` with train/*.jpg, one image in val/, and annotations/instances_{train,val}.json."""
    root = under / "photographs"
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train", images), ("val", 1)):
        (root / split).mkdir()
        random = np.random.default_rng(count)
        content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
        content["categories"] = [{"id": number, "name": f"kind {number}"} for number in (1, 2, 3)]
        for number in range(1, count + 1):
            name = f"{number:06d}.jpg"
            cv2.imwrite(str(root / split / name), photograph(random), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            content["images"].append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
            for _ in range(BOXES):
                content["annotations"].append(_annotation(len(content["annotations"]) + 1, number, random))
        file = root / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(content), encoding="utf-8")
    return root


def photograph(random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """(480, 640, 3) noise at every scale, each finer one weaker, about as the spectrum of photographs falls (Field,
    "Relations between the statistics of natural images", 1987).
    """
    image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for level in range(8):
        cells = random.normal(size=((HEIGHT >> level) + 2, (WIDTH >> level) + 2, 3)).astype(np.float32)
        # Mostly brightness: channels go together.
        cells = 0.8 * cells[:, :, :1] + 0.4 * cells
        image += STEEPNESS**level * cv2.resize(cells, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    image = 128 + 50 * (image - image.mean()) / image.std()
    pixels: npt.NDArray[np.uint8] = image.clip(0, 255).astype(np.uint8)
    return pixels


def _annotation(number: int, image: int, random: np.random.Generator) -> dict[str, Any]:
    width, height = random.uniform(0.1, 0.4, 2) * (WIDTH, HEIGHT)
    x, y = random.random(2) * (WIDTH - width, HEIGHT - height)
    box = [round(float(value), 2) for value in (x, y, width, height)]
    area = box[2] * box[3]
    kind = int(random.integers(1, 4))
    return {"id": number, "image_id": image, "category_id": kind, "bbox": box, "area": area, "iscrowd": 0}
