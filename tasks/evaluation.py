"""Scores a model on annotated images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate.accelerator import Accelerator
from accelerate.utils.operations import broadcast_object_list, gather_object

from heads import Prediction
from tasks.config import Experiment
from tasks.data.annotations import Annotations
from tasks.data.loader import evaluation_loader
from tasks.drawing import Picture, save_picture, side_by_side
from tasks.head_choice import learning_heads
from tasks.image_results import ImageResults
from tasks.inference import Predictor
from tasks.kinds import task_of
from tasks.label_map import LabelMap
from tasks.progress import Reporter
from tasks.task import Scorer


class Evaluator:
    """Predicts every image of a split once, over all processes, and scores the predictions of every head that learns.

    Args:
        config: the experiment; its data section says how images are read and resized.
        annotations: the split.
        labels: classes of each head.
        accelerator: device, precision and processes.
        divisor: batches are padded to a multiple of this.
        workers: loader processes; None: those of the config.
    """

    def __init__(
        self,
        config: Experiment,
        annotations: Annotations,
        labels: Mapping[str, LabelMap],
        accelerator: Accelerator,
        divisor: int,
        workers: int | None = None,
    ) -> None:
        self.config, self.annotations, self.labels, self.accelerator = config, annotations, labels, accelerator
        self.tasks = {name: task_of(config.heads[name]) for name in learning_heads(config)}
        self.scorers: dict[str, Scorer] = {
            name: task.scorer(name, config, annotations, labels[name]) for name, task in self.tasks.items()
        }
        self.rows = {annotations.image_id(index): index for index in range(len(annotations))}
        self.loader = evaluation_loader(
            annotations,
            config.data,
            config.image,
            divisor=divisor,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            pin_memory=accelerator.device.type == "cuda",
            workers=workers,
        )

    @property
    def main_metric(self) -> str:
        """The metric that names the best checkpoint unless the config chooses another."""
        name, scorer = next(iter(self.scorers.items()))
        return f"{name}/{scorer.main_metric}"

    def metric_names(self) -> list[str]:
        """Every metric that `evaluate` gives."""
        return [f"{head}/{name}" for head, scorer in self.scorers.items() for name in scorer.names()]

    def headline(self) -> list[str]:
        """Names of the few metrics to show in one line."""
        return [f"{head}/{name}" for head, scorer in self.scorers.items() for name in scorer.headline]

    def goodness(self, metric: str, value: float) -> float:
        """`value` of a metric as a number that is larger the better it is; the worst where it could not be measured."""
        head, name = metric.split("/", 1)
        if name not in self.scorers[head].lower:
            return value
        return -value if value >= 0 else -np.inf

    def evaluate(
        self,
        predictor: Predictor,
        reporter: Reporter,
        pictures: Path | None = None,
        pool: "Evaluator | None" = None,
    ) -> dict[str, float]:
        """Metrics as `"<head>/<metric>"`, on every process.

        Args:
            predictor: of the model to be scored, with the heads that learn and no other; its model is left in
                evaluation mode.
            reporter: shows progress.
            pictures: folder for validation images drawn with annotations and predictions; None draws none.
            pool: of a split that holds these images and others; its scorers take the same predictions.
        """
        chosen = self._chosen_for_pictures()
        shown: dict[int, dict[str, Prediction]] = {}
        for scorer in self.scorers.values():
            scorer.reset()
        for batch in reporter.track(self.loader, len(self.loader), "evaluate, batches"):
            with torch.inference_mode(), self.accelerator.autocast():
                found = predictor(batch.to(self.accelerator.device, non_blocking=True))
            for head, predictions in found.items():
                for image_id, prediction in zip(batch.image_ids, predictions, strict=True):
                    index = self.rows[image_id]
                    self.scorers[head].add(index, prediction)
                    if pool is not None:
                        pool.scorers[head].add(pool.rows[image_id], prediction)
                    if index in chosen:
                        shown.setdefault(index, {})[head] = prediction
        metrics = self.metrics(pictures)
        if pictures is not None:
            self._draw(shown, pictures)
        return metrics

    def metrics(self, pictures: Path | None = None) -> dict[str, float]:
        """Metrics of all that has been added to the scorers, of all processes, on every process."""
        metrics: dict[str, float] = {}
        for head, scorer in self.scorers.items():
            gathered = gather_object([scorer.collected()])
            if self.accelerator.is_main_process:
                metrics |= {f"{head}/{name}": value for name, value in scorer.metrics(gathered).items()}
                if pictures is not None:
                    pictures.mkdir(parents=True, exist_ok=True)
                    scorer.draw(pictures)
        shared: dict[str, float] = broadcast_object_list([metrics])[0]
        return shared

    def results(self, step: int, metrics: Mapping[str, float]) -> list[ImageResults]:
        """What the last metrics rest on, image by image, of each head; in the main process alone.

        Args:
            step: of the scored weights.
            metrics: as `evaluate` gave them.
        """
        return [
            ImageResults(
                head=head,
                kind=scorer.kind,
                split=scorer.annotations.split,
                step=step,
                labels=scorer.labels,
                images=tuple(map(scorer.annotations.title, range(len(scorer.annotations)))),
                metrics={
                    name.removeprefix(f"{head}/"): value
                    for name, value in metrics.items()
                    if name.startswith(f"{head}/")
                },
                lower=scorer.lower,
                main=scorer.main_metric,
                options=scorer.options(),
                arrays=scorer.arrays(),
            )
            for head, scorer in self.scorers.items()
        ]

    def notes(self) -> list[str]:
        """Counts that the last metrics rest on, for people."""
        return [f"{head}: {note}" for head, scorer in self.scorers.items() for note in scorer.notes()]

    def _chosen_for_pictures(self) -> set[int]:
        """Images spread evenly over the split."""
        count = min(self.config.runner.pictures, len(self.annotations))
        return set(np.linspace(0, len(self.annotations) - 1, count).round().astype(int).tolist())

    def _draw(self, shown: Mapping[int, Mapping[str, Prediction]], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        data = self.annotations
        for index, predictions in shown.items():
            picture = Picture.of(data.image(index, self.config.image, self.config.data.exif), self.config.image)
            for head, prediction in predictions.items():
                truth, drawn = picture.copy(), picture.copy()
                self.tasks[head].draw_truth(truth, data, index, self.labels[head])
                self.tasks[head].draw(drawn, prediction, self.labels[head], 0.5)
                sheet = side_by_side(truth, drawn, ("annotated", "predicted"))
                save_picture(folder / f"{data.file(index).stem}_{data.image_id(index)}_{head}.jpg", sheet)


def show_metrics(reporter: Reporter, metrics: Mapping[str, float], notes: list[str] | None = None) -> None:
    """Print the metrics of each head as two tables, the overall ones and those by class, and what they rest on."""
    for head in dict.fromkeys(name.split("/", 1)[0] for name in metrics):
        own = {name.split("/", 1)[1]: value for name, value in metrics.items() if name.startswith(f"{head}/")}
        # -1 means that the annotations hold nothing that this number could be measured on.
        rows = [(name, "-" if value == -1 else f"{value:.3f}") for name, value in own.items()]
        reporter.table(head, ("metric", "value"), [row for row in rows if "/" not in row[0]])
        by_class: dict[str, dict[str, str]] = {}
        for name, value in rows:
            if "/" in name:
                metric, label = name.split("/", 1)
                by_class.setdefault(label, {})[metric] = value
        kinds = list(dict.fromkeys(metric for values in by_class.values() for metric in values))
        if by_class:
            table = [(label, *(values.get(kind, "") for kind in kinds)) for label, values in by_class.items()]
            reporter.table(f"{head}, by class", ("class", *kinds), table)
    for note in notes or []:
        reporter.say(note)
