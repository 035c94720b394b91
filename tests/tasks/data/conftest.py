"""Small annotated folders to read, made on the spot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


def _write_images(folder: Path, images: list[dict[str, Any]]) -> None:
    for number, image in enumerate(images):
        file = folder / image["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(number)
        cv2.imwrite(str(file), random.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8))


@pytest.fixture
def coco_content() -> Callable[..., dict[str, Any]]:
    """Valid COCO content: `count` images of alternating shape, two boxes each but none in the last."""

    def build(count: int = 6, prefix: str = "image") -> dict[str, Any]:
        images = [
            {
                "id": 10 * i + 7,
                "file_name": f"{prefix}_{i}.png",
                "height": (40, 60, 40)[i % 3],
                "width": (64, 36, 64)[i % 3],
            }
            for i in range(count)
        ]
        annotations = [
            {
                "id": 100 + 2 * i + k,
                "image_id": images[i]["id"],
                "category_id": (3, 9)[k],
                "bbox": [2 + i, 3, 10 + 5 * k, 12],
                "area": 100.5 + k,
                "iscrowd": 0,
                "segmentation": [[2 + i, 3, 12 + i + 5 * k, 3, 12 + i + 5 * k, 15]],
            }
            for i in range(count - 1)
            for k in range(2)
        ]
        categories = [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}]
        return {"images": images, "annotations": annotations, "categories": categories}

    return build


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., Path]:
    """Writes content to `root/json_file` with its images under `root/image_folder`, and returns the root."""

    def write(
        content: dict[str, Any], json_file: str = "annotations/instances_train.json", image_folder: str = "train"
    ) -> Path:
        root = tmp_path / "set"
        (root / json_file).parent.mkdir(parents=True, exist_ok=True)
        (root / json_file).write_text(json.dumps(content))
        _write_images(root / image_folder, content["images"])
        return root

    return write


@pytest.fixture
def voc_page() -> Callable[..., str]:
    """Text of a VOC xml file; objects are (name, xmin, ymin, xmax, ymax, difficult)."""

    def build(objects: list[tuple[Any, ...]], width: Any = 64, height: Any = 40, filename: str = "old.jpg") -> str:
        entries = "".join(
            f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
            f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
            for name, a, b, c, d, difficult in objects
        )
        return (
            f"<annotation><filename>{filename}</filename><size><width>{width}</width><height>{height}</height>"
            f"<depth>3</depth></size>{entries}</annotation>"
        )

    return build


@pytest.fixture
def write_voc(tmp_path: Path) -> Callable[..., Path]:
    """Writes a VOC folder from {stem: xml text} and {split: stems}, and returns it."""

    def write(pages: dict[str, str], splits: dict[str, list[str]] | None = None, flat: bool = False) -> Path:
        root = tmp_path / "voc"
        xml, images = (root, root) if flat else (root / "Annotations", root / "JPEGImages")
        for folder in (xml, images):
            folder.mkdir(parents=True, exist_ok=True)
        for stem, text in pages.items():
            (xml / f"{stem}.xml").write_text(text)
            cv2.imwrite(str(images / f"{stem}.jpg"), np.full((40, 64, 3), 90, np.uint8))
        for split, stems in (splits or {}).items():
            listing = root / "ImageSets" / "Main" / f"{split}.txt"
            listing.parent.mkdir(parents=True, exist_ok=True)
            listing.write_text("\n".join(stems))
        return root

    return write
