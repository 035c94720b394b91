"""What `tools/predict.py` writes: one class a format. Those of annotated data sets are in `annotation_writers`."""

import csv
import json
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from tasks.drawing import save_picture
from tasks.prediction.description import ModelDescription
from tasks.prediction.found import Mask
from tasks.prediction.found_boxes import FoundBoxes
from tasks.prediction.image_places import ImagePlace
from tasks.prediction.image_predictions import ImagePredictions
from tasks.prediction.video import VideoFile, frame_rate, is_video


class Writer(ABC):
    """Writes predictions in one format. Used as a context: leaving it completes the files.

    Args:
        out: folder to write to, which exists.
        model: what predicts.
        threshold: what scores less is not drawn, and no annotation.
        masks: whether masks are written beside, so that rows may name their files.

    Raises:
        UserError: the model finds nothing that the format can hold.
        OSError: from any method, when a file cannot be written.
    """

    def __init__(self, out: Path, model: ModelDescription, threshold: float, masks: bool) -> None:
        self.out, self.model, self.threshold, self.masks = out, model, threshold, masks

    @abstractmethod
    def add(self, image_id: int, place: ImagePlace, found: ImagePredictions) -> None:
        """Take the predictions for one image."""

    def finish(self) -> None:  # noqa: B027  many write all they have at once
        """Write what had to wait for the last image."""

    def close(self) -> None:  # noqa: B027
        """Close what is open, whatever has happened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.close()


class JsonWriter(Writer):
    """`predictions.json`: all rows of all images, with the name of the file of each."""

    def __init__(self, out: Path, model: ModelDescription, threshold: float, masks: bool) -> None:
        super().__init__(out, model, threshold, masks)
        self.rows: list[dict[str, Any]] = []

    def add(self, image_id: int, place: ImagePlace, found: ImagePredictions) -> None:
        """See `Writer`."""
        paths = {}
        if self.masks:
            paths = {name: row for name, row, _ in mask_files(found, place.stem(image_id))}
        for name, one in found.found.items():
            head = {"head": name} if len(found.found) > 1 else {}
            for row in one.rows(self.model.heads[name].labels):
                self.rows.append({**head, "image_id": image_id, **paths.get(name, {}), **row, "file_name": str(place)})

    def finish(self) -> None:
        """See `Writer`."""
        (self.out / "predictions.json").write_text(json.dumps(self.rows), encoding="utf-8")


class MasksWriter(Writer):
    """`masks/*.png`: classes of pixels, or numbers of instances; see `Found.mask_files`."""

    def add(self, image_id: int, place: ImagePlace, found: ImagePredictions) -> None:
        """See `Writer`."""
        for _, _, files in mask_files(found, place.stem(image_id)):
            for path, mask in files.items():
                (self.out / path).parent.mkdir(parents=True, exist_ok=True)
                # cv2's own writer says nothing when the disk is full.
                (self.out / path).write_bytes(cv2.imencode(".png", mask)[1].tobytes())


class DrawnWriter(Writer):
    """`*.jpg`: each image with what was found; of a video, `*.mp4`."""

    def __init__(self, out: Path, model: ModelDescription, threshold: float, masks: bool) -> None:
        super().__init__(out, model, threshold, masks)
        self._videos: dict[Path, VideoFile] = {}
        self._open = ExitStack()

    def add(self, image_id: int, place: ImagePlace, found: ImagePredictions) -> None:
        """See `Writer`."""
        if not is_video(place.file):
            save_picture(self.out / f"{place.stem(image_id)}.jpg", found.draw(self.threshold))
            return
        if place.file not in self._videos:  # numbered by its first frame, so that equal names do not clash
            video = VideoFile(self.out / f"{place.stem(image_id)}.mp4", frame_rate(place.file))
            self._videos[place.file] = self._open.enter_context(video)
        self._videos[place.file].add(found.draw(self.threshold))

    def close(self) -> None:
        """See `Writer`."""
        self._open.close()


class CsvWriter(Writer):
    """`predictions.csv`, a line for each box, or for each image; with several heads `predictions_<head>.csv`.

    Boxes: image, label, score, x1, y1, x2, y2, all of them. Labels: image, label (several are separated by |) and the
    score of each class, or image and each number. Masks: image, and the area of each class in pixels.
    """

    def __init__(self, out: Path, model: ModelDescription, threshold: float, masks: bool) -> None:
        super().__init__(out, model, threshold, masks)
        self.lines: dict[str, list[list[object]]] = {name: [] for name in model.heads}

    def add(self, image_id: int, place: ImagePlace, found: ImagePredictions) -> None:
        """See `Writer`."""
        for name, one in found.found.items():
            names = self.model.heads[name].labels.names
            if isinstance(one, FoundBoxes):
                for box, score, label in zip(one.boxes.tolist(), one.scores.tolist(), one.labels.tolist(), strict=True):
                    self.lines[name].append([place, names[label], f"{score:.5f}", *(f"{value:.2f}" for value in box)])
                continue
            (row,) = one.rows(self.model.heads[name].labels)
            values = next(row[key] for key in ("scores", "values", "area") if key in row)
            told = [row["label"] if "label" in row else "|".join(row["labels"])] if "scores" in row else []
            self.lines[name].append([place, *told, *values.values()])

    def finish(self) -> None:
        """See `Writer`."""
        for name, lines in self.lines.items():
            head = self.model.heads[name]
            if head.kind == "boxes":
                columns = ["image", "label", "score", "x1", "y1", "x2", "y2"]
            else:
                told = ["label"] if head.kind == "labels" and head.target != "regression" else []
                prefix = {"labels": "score ", "masks": "area "}[head.kind] if told or head.kind == "masks" else ""
                columns = ["image", *told, *(prefix + one for one in head.labels.names)]
            file = "predictions.csv" if len(self.lines) == 1 else f"predictions_{name}.csv"
            with (self.out / file).open("w", encoding="utf-8", newline="") as opened:
                table = csv.writer(opened, lineterminator="\n")
                table.writerow(columns)
                table.writerows(lines)


def mask_files(found: ImagePredictions, stem: str) -> list[tuple[str, dict[str, Any], dict[str, Mask]]]:
    """For each head its name, what its row says of its masks, and the masks by path."""
    several = len(found.found) > 1
    return [
        (name, *one.mask_files(f"{stem}_{name}" if several else stem, found.model.heads[name].labels))
        for name, one in found.found.items()
    ]


def confident(found: FoundBoxes, threshold: float) -> FoundBoxes:
    """The boxes that score at least `threshold`."""
    return found.chosen(np.asarray(found.scores >= threshold))
