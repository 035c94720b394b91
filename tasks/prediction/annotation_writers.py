"""Boxes that were found, as annotations of a data set: to be corrected by hand, or to be trained on.

Boxes that score less than the threshold are left out: an annotation tool has no use for a hundred guesses.
"""

import json
import os
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones.errors import UserError
from tasks.prediction.description import ModelDescription
from tasks.prediction.found_boxes import FoundBoxes
from tasks.prediction.image_places import ImagePlace
from tasks.prediction.image_predictions import ImagePredictions
from tasks.prediction.writers import Writer, confident


class AnnotationWriter(Writer):
    """What formats for boxes have in common: they hold those of one head."""

    def __init__(self, out: Path, model: ModelDescription, threshold: float, masks: bool) -> None:
        super().__init__(out, model, threshold, masks)
        heads = [name for name, head in model.heads.items() if head.kind == "boxes"]
        if len(heads) != 1:
            names = ", ".join(heads) or "none"
            raise UserError(
                f"formats coco, yolo and voc hold the boxes of one head; heads with boxes in this model: {names}; "
                "use json or csv"
            )
        self.head = heads[0]
        self.labels = model.heads[self.head].labels

    def boxes(self, found: ImagePredictions) -> FoundBoxes:
        """Those to be written."""
        own = found[self.head]
        assert isinstance(own, FoundBoxes)  # the description has said so
        return confident(own, self.threshold)


class CocoWriter(AnnotationWriter):
    """`coco.json`: images, categories and annotations, with a `score` each; masks as run lengths.

    Files are named relative to the folder that all images lie in, which `info.images` tells.
    """

    def __init__(self, out: Path, model: ModelDescription, threshold: float, masks: bool) -> None:
        super().__init__(out, model, threshold, masks)
        self.images: list[dict[str, Any]] = []
        self.places: list[ImagePlace] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, image_id: int, place: ImagePlace, found: ImagePredictions) -> None:
        """See `Writer`."""
        height, width = found.size
        self.places.append(place)
        self.images.append({"id": image_id, "height": height, "width": width})
        for row in self.boxes(found).rows(self.labels):
            area = row["bbox"][2] * row["bbox"][3]
            number = len(self.annotations) + 1
            self.annotations.append({"id": number, "image_id": image_id, "area": area, "iscrowd": 0, **row})

    def finish(self) -> None:
        """See `Writer`."""
        categories = [{"id": raw, "name": name} for raw, name in zip(self.labels.ids, self.labels.names, strict=True)]
        folder = Path(os.path.commonpath([place.file.resolve().parent for place in self.places] or [Path.cwd()]))
        for image, place in zip(self.images, self.places, strict=True):
            own = replace(place, file=place.file.resolve().relative_to(folder))
            image["file_name"] = str(own).replace(os.sep, "/")
        content = {
            "info": {"images": str(folder)},
            "images": self.images,
            "categories": categories,
            "annotations": self.annotations,
        }
        (self.out / "coco.json").write_text(json.dumps(content), encoding="utf-8")


class YoloWriter(AnnotationWriter):
    """`labels/*.txt`: a line a box, class index and centre x, centre y, width, height as shares of the image.

    `classes.txt` has the names of the classes by index.
    """

    def __init__(self, out: Path, model: ModelDescription, threshold: float, masks: bool) -> None:
        super().__init__(out, model, threshold, masks)
        (out / "labels").mkdir(parents=True, exist_ok=True)
        (out / "classes.txt").write_text("".join(f"{name}\n" for name in self.labels.names), encoding="utf-8")

    def add(self, image_id: int, place: ImagePlace, found: ImagePredictions) -> None:
        """See `Writer`."""
        height, width = found.size
        boxes = self.boxes(found)
        lines = []
        for (x1, y1, x2, y2), label in zip(boxes.boxes.tolist(), boxes.labels.tolist(), strict=True):
            shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(" ".join([str(label), *(f"{share:.6f}" for share in shares)]) + "\n")
        (self.out / "labels" / f"{place.stem(image_id)}.txt").write_text("".join(lines), encoding="utf-8")


class VocWriter(AnnotationWriter):
    """`Annotations/*.xml` of Pascal VOC, x1 y1 x2 y2 in pixels as they are, without VOC's counting from 1."""

    def add(self, image_id: int, place: ImagePlace, found: ImagePredictions) -> None:
        """See `Writer`."""
        height, width = found.size
        page = ET.Element("annotation")
        ET.SubElement(page, "filename").text = place.file.name
        ET.SubElement(page, "path").text = str(place)
        size = ET.SubElement(page, "size")
        for name, value in (("width", width), ("height", height), ("depth", found.image.shape[2])):
            ET.SubElement(size, name).text = str(value)
        boxes = self.boxes(found)
        for box, score, label in zip(boxes.boxes.tolist(), boxes.scores.tolist(), boxes.labels.tolist(), strict=True):
            thing = ET.SubElement(page, "object")
            ET.SubElement(thing, "name").text = self.labels.names[label]
            ET.SubElement(thing, "difficult").text = "0"
            ET.SubElement(thing, "confidence").text = f"{score:.5f}"
            corners = ET.SubElement(thing, "bndbox")
            for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                ET.SubElement(corners, name).text = f"{value:.2f}"
        ET.indent(page)
        (self.out / "Annotations").mkdir(parents=True, exist_ok=True)
        # A file of one image has its name, as readers expect; pages and frames of others are numbered.
        stem = place.stem(image_id) if place.several else place.file.name.rsplit(".", 1)[0]
        ET.ElementTree(page).write(self.out / "Annotations" / f"{stem}.xml", encoding="utf-8")
