"""Scores a model on annotated images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate.accelerator import Accelerator
from accelerate.utils.operations import broadcast_object_list, gather_object
from hotcoco import COCO

from heads import Detections
from tasks.config import Experiment
from tasks.data.annotations import Annotations
from tasks.data.image_file import read_image
from tasks.data.loader import evaluation_loader
from tasks.detection.coco_metric import METRICS, Rows, detection_rows, score_detections
from tasks.detection.draw import draw_boxes, draw_detections, save_picture, side_by_side, viewable
from tasks.label_map import LabelMap
from tasks.model import Model
from tasks.progress import Reporter


class Evaluator:
    """Predicts every image of a split once, over all processes, and scores the predictions of every head.

    Args:
        config: the experiment; its data section says how images are read and resized.
        annotations: the split.
        labels: classes of each head.
        accelerator: device, precision and processes.
        divisor: batches are padded to a multiple of this.
    """

    def __init__(
        self,
        config: Experiment,
        annotations: Annotations,
        labels: Mapping[str, LabelMap],
        accelerator: Accelerator,
        divisor: int,
    ) -> None:
        self.config, self.annotations, self.labels, self.accelerator = config, annotations, labels, accelerator
        self.loader = evaluation_loader(
            annotations,
            config.data,
            config.image,
            divisor=divisor,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            pin_memory=accelerator.device.type == "cuda",
        )
        self.truth = COCO(annotations.to_coco())

    @property
    def main_metric(self) -> str:
        """The metric that names the best checkpoint unless the config chooses another."""
        return f"{next(iter(self.labels))}/AP"

    def metric_names(self) -> list[str]:
        """Every metric that `evaluate` gives."""
        return [
            f"{head}/{name}"
            for head, classes in self.labels.items()
            for name in (*METRICS, *(f"AP/{label}" for label in classes.names))
        ]

    def headline(self, metrics: Mapping[str, float]) -> list[str]:
        """Names of the few metrics to show in one line."""
        return [name for name in metrics if name.split("/", 1)[1] in METRICS[:3]]

    def evaluate(self, model: Model, reporter: Reporter, pictures: Path | None = None) -> dict[str, float]:
        """Metrics as `"<head>/<metric>"`, on every process.

        Args:
            model: to be scored; left in evaluation mode.
            reporter: shows progress.
            pictures: folder for validation images drawn with annotations and predictions; None draws none.
        """
        model.eval()
        rows: dict[str, list[Rows]] = {head: [] for head in self.labels}
        chosen = self._chosen_for_pictures()
        shown: dict[int, dict[str, Detections]] = {}
        for batch in reporter.track(self.loader, len(self.loader), "evaluate, batches"):
            batch = batch.to(self.accelerator.device, non_blocking=True)
            with torch.inference_mode(), self.accelerator.autocast():
                found = model.predict(batch)
            for head, predictions in found.items():
                rows[head].append(detection_rows(batch.image_ids, predictions, self.labels[head]))
            for index, image_id in enumerate(batch.image_ids):
                if image_id in chosen:
                    shown[image_id] = {head: predictions[index] for head, predictions in found.items()}
        metrics: dict[str, float] = {}
        for head in self.labels:
            gathered = gather_object([np.concatenate([np.empty((0, 7)), *rows[head]])])
            if self.accelerator.is_main_process:
                scores = score_detections(self.truth, np.concatenate(gathered))
                metrics |= {f"{head}/{name}": value for name, value in scores.items()}
        if pictures is not None:
            self._draw(shown, pictures)
        shared: dict[str, float] = broadcast_object_list([metrics])[0]
        return shared

    def _chosen_for_pictures(self) -> set[int]:
        """Ids of images spread evenly over the split."""
        count = min(self.config.runner.pictures, len(self.annotations))
        indices = np.linspace(0, len(self.annotations) - 1, count).round().astype(int)
        return {self.annotations.image_id(index) for index in indices.tolist()}

    def _draw(self, shown: Mapping[int, Mapping[str, Detections]], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        data, spec = self.annotations, self.config.image
        for index in range(len(data)):
            if data.image_id(index) not in shown:
                continue
            image = read_image(data.file(index), spec, data.size(index), self.config.data.exif)
            picture, objects = viewable(image, spec.low, spec.white), data.objects(index)
            for head, detections in shown[data.image_id(index)].items():
                classes = self.labels[head]
                truth = draw_boxes(picture, objects.boxes, objects.labels, classes)
                drawn = draw_detections(picture, detections, classes, threshold=0.5)
                sheet = side_by_side(truth, drawn, ("annotated", "predicted, score 0.5 and above"))
                save_picture(folder / f"{data.file(index).stem}_{head}.jpg", sheet)


def show_metrics(reporter: Reporter, metrics: Mapping[str, float]) -> None:
    """Print the metrics of each head as two tables: the overall ones, and AP by class."""
    for head in dict.fromkeys(name.split("/", 1)[0] for name in metrics):
        own = {name.split("/", 1)[1]: value for name, value in metrics.items() if name.startswith(f"{head}/")}
        # -1 means that the annotations hold nothing that this number could be measured on.
        rows = [(name, "-" if value < 0 else f"{value:.3f}") for name, value in own.items()]
        reporter.table(head, ("metric", "value"), [row for row in rows if "/" not in row[0]])
        by_class = [(name.removeprefix("AP/"), value) for name, value in rows if "/" in name]
        reporter.table(f"{head}, by class", ("class", "AP"), by_class)
