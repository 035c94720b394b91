"""Scores labels of whole images: classes, several at once, in order, and numbers."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from heads.contract import ImageLabels, LabelKind, Prediction
from tasks.classification.label_measures import LOWER, OVERALL, LabelMeasures
from tasks.classification.metrics import Floats, Ints
from tasks.classification.truth import KnownLabels
from tasks.config import Experiment
from tasks.data.annotations import Annotations
from tasks.image_results import Arrays, Kind
from tasks.label_map import LabelMap
from tasks.task import Scorer

Collected = tuple[Ints, npt.NDArray[np.float32]]


class ClassificationScorer(Scorer):
    """Compares predicted labels of images with the annotated ones; images without a label are left out.

    A class that no image of the split has is left out of every mean over classes. Of two classes, AUROC and AP are
    those of the second one; of more, means of each class against the rest.

    The main metric names the best checkpoint. `single`: balanced accuracy, which is plain accuracy where classes are
    equally frequent, does not reward neglecting a rare one, and still moves when the AUROC has come close to 1.
    `multi`: mAP, which needs no threshold. `ordinal`: quadratic weighted kappa, in which far errors count more.
    `regression`: R2, which has no unit and can be averaged over numbers that have.
    """

    kind: ClassVar[Kind] = "labels"

    def __init__(self, head: str, config: Experiment, annotations: Annotations, labels: LabelMap) -> None:
        super().__init__(head, config, annotations, labels)
        self.target: LabelKind = config.heads[head].factory_options().get("target", "single")
        self.lower = frozenset((*LOWER, *(f"{metric}/{name}" for metric in LOWER for name in labels.names)))
        self.measures = LabelMeasures(labels, self.target)
        self.reset()

    @property
    def main_metric(self) -> str:
        """The first of the headline."""
        return OVERALL[self.target][0]

    @property
    def headline(self) -> tuple[str, ...]:
        """The first three of `OVERALL`."""
        return OVERALL[self.target][:3]

    def names(self) -> list[str]:
        """Those of `LabelMeasures`."""
        return self.measures.names()

    def reset(self) -> None:
        """Forget all predictions."""
        self.indices: list[int] = []
        self.scores: list[npt.NDArray[np.float32]] = []
        self.measures.reset()
        self._scored: tuple[Ints, npt.NDArray[Any], Floats]

    def add(self, index: int, prediction: Prediction) -> None:
        """Take the scores of image `index`."""
        assert isinstance(prediction, ImageLabels)
        self.indices.append(index)
        self.scores.append(prediction.scores.float().cpu().numpy())

    def collected(self) -> Collected:
        """(N,) images and their scores (N, K)."""
        return np.asarray(self.indices, np.int64), np.stack([np.zeros(len(self.labels), np.float32), *self.scores])[1:]

    def metrics(self, collected: Sequence[Collected]) -> dict[str, float]:
        """All of `names`."""
        indices = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in collected)])
        scores = np.concatenate([np.zeros((0, len(self.labels)), np.float32), *(part[1] for part in collected)])
        order = np.argsort(indices)  # sums do not depend on which process had which image
        indices, scores = indices[order], scores[order].astype(np.float64)
        kept = self._truth.known[indices]
        truth, scores = self._truth.values[indices][kept], scores[kept]
        self._scored = indices[kept], truth, scores
        metrics = self.measures(truth, scores)
        if not kept.all():
            left_out = f"{int((~kept).sum())} of {len(kept)} images have no label and are left out"
            self.measures.notes.insert(0, left_out)
        return metrics

    def arrays(self) -> Arrays:
        """`index` (N,) of the labelled images in the split, `truth` as in `KnownLabels.values`, `scores` (N, K)."""
        index, truth, scores = self._scored
        return {"index": index, "truth": truth, "scores": scores}

    def options(self) -> dict[str, Any]:
        """The target."""
        return {"target": self.target}

    def notes(self) -> list[str]:
        """Images and classes that are left out."""
        return self.measures.notes

    def draw(self, folder: Path) -> None:
        """`<head>_confusion.png`, `<head>_calibration.png` and `<head>_numbers.png`, those that the target has."""
        from tasks.classification import plots

        if self.measures.confusion is not None:
            plots.draw_confusion(folder / f"{self.head}_confusion.png", self.measures.confusion, self.labels.names)
        if self.measures.calibration is not None:
            plots.draw_calibration(folder / f"{self.head}_calibration.png", self.measures.calibration)
        if self.measures.numbers is not None:
            plots.draw_numbers(folder / f"{self.head}_numbers.png", *self.measures.numbers, self.labels.names)

    @cached_property
    def _truth(self) -> KnownLabels:
        return KnownLabels.of(self.annotations, self.target)
