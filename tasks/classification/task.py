"""Labels of whole images as a kind of target."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from heads.contract import ImageLabels, ImageSizes, Prediction, Reads
from tasks.classification.metrics import PRESENT, Floats, decided
from tasks.classification.scorer import ClassificationScorer
from tasks.classification.truth import layout, require_labels
from tasks.data.annotations import Annotations
from tasks.drawing import Picture, class_colour
from tasks.explanation.subject import Question, Subject
from tasks.label_map import LabelMap
from tasks.task import Scorer, Task

GREY = (200, 200, 200)
Line = tuple[str, tuple[int, int, int]]


class ClassificationTask(Task):
    """Classes, ranks or numbers of whole images."""

    reads: ClassVar[Reads] = "labels"
    scorer: ClassVar[type[Scorer]] = ClassificationScorer

    @staticmethod
    def require(annotations: Annotations) -> None:
        """Raise `UserError` when no image of the split has a label."""
        require_labels(annotations)

    @staticmethod
    def draw_truth(picture: Picture, annotations: Annotations, index: int, labels: LabelMap) -> None:
        """Write what is annotated onto the picture of image `index`."""
        assert annotations.image_labels is not None  # the task has asked for them
        own = annotations.image_labels[index].numpy()
        match layout(annotations):
            case "regression":
                known = not np.isnan(own).any()
                _write(picture, _numbers(own.astype(np.float64), labels) if known else [("not annotated", GREY)])
            case "multi":
                _write(picture, _classes(np.flatnonzero(own).tolist(), labels) or [("none", GREY)])
            case _:
                _write(picture, _classes([int(own)], labels) if own >= 0 else [("not annotated", GREY)])

    @staticmethod
    def draw(picture: Picture, prediction: Prediction, labels: LabelMap, threshold: float) -> None:
        """Write the predicted classes with their probabilities, most probable first, or the numbers.

        Of `single` and `ordinal` labels the decided class is always shown, and comes first.
        """
        assert isinstance(prediction, ImageLabels)
        scores = prediction.scores.cpu().double().numpy()
        if prediction.target == "regression":
            _write(picture, _numbers(scores, labels))
            return
        shown = [int(label) for label in np.argsort(-scores, kind="stable") if scores[label] >= threshold]
        if prediction.target != "multi":
            first = int(decided(scores[None], prediction.target)[0])
            shown = [first, *(label for label in shown if label != first)]
        _write(picture, _classes(shown, labels, scores) or [("none", GREY)])

    @staticmethod
    def subjects(prediction: Prediction, sizes: ImageSizes, labels: LabelMap, question: Question) -> list[Subject]:
        """The decided class, those that are present, or the numbers of a regression; or the classes asked for.

        Of `ordinal` labels it is whether the class is reached, since all of them rest on one score.
        """
        assert isinstance(prediction, ImageLabels)
        scores = prediction.scores.cpu().double().numpy()
        chosen: Sequence[int] = range(len(scores))
        if question.classes is not None:
            chosen = question.classes
        elif prediction.target == "multi":
            chosen = [int(label) for label in np.argsort(-scores, kind="stable") if scores[label] >= PRESENT]
        elif prediction.target != "regression":
            chosen = [int(decided(scores[None], prediction.target)[0])]
        subjects = []
        for label in chosen[: question.top] if question.classes is None else chosen:
            title = f"{labels.names[label]} {scores[label]:.4g}"
            if prediction.target == "ordinal" and label:
                title = f"{labels.names[label]} or above {scores[label:].sum():.2f}"
            elif prediction.target != "regression":
                title = f"{labels.names[label]} {scores[label]:.2f}"
            subjects.append(Subject(title, label, partial(_logit, label)))
        return subjects

    @staticmethod
    def write(
        folder: Path, stem: str, image_id: int, file: str, prediction: Prediction, labels: LabelMap
    ) -> list[dict[str, Any]]:
        """One row: `scores` by class with the `label`, or `labels` of multi-label data; `values` of a regression."""
        assert isinstance(prediction, ImageLabels)
        scores = prediction.scores.cpu().double().numpy()
        row: dict[str, Any] = {"image_id": image_id, "file_name": file}
        if prediction.target == "regression":
            # float32 has no more than seven digits.
            row["values"] = {name: float(f"{v:.7g}") for name, v in zip(labels.names, scores.tolist(), strict=True)}
            return [row]
        row["scores"] = {name: round(value, 5) for name, value in zip(labels.names, scores.tolist(), strict=True)}
        if prediction.target == "multi":
            row["labels"] = [labels.names[label] for label in np.flatnonzero(scores >= PRESENT).tolist()]
        else:
            row["label"] = labels.names[int(decided(scores[None], prediction.target)[0])]
        return [row]


def _logit(label: int, logits: Tensor) -> Tensor:
    return logits[label]


def _classes(shown: list[int], labels: LabelMap, scores: Floats | None = None) -> list[Line]:
    tails = {label: "" if scores is None else f" {scores[label]:.2f}" for label in shown}
    return [(labels.names[label] + tail, class_colour(label)) for label, tail in tails.items()]


def _numbers(values: Floats, labels: LabelMap) -> list[Line]:
    return [
        (f"{name} {value:.4g}", class_colour(k))
        for k, (name, value) in enumerate(zip(labels.names, values.tolist(), strict=True))
    ]


def _write(picture: Picture, lines: list[Line]) -> None:
    """Lines below each other from the top left corner; those that no longer fit are counted on the last one."""
    fit = max(1, picture.pixels.shape[0] // (picture.bar + 1))
    if len(lines) > fit:
        lines = [*lines[: fit - 1], (f"and {len(lines) - fit + 1} more", GREY)]
    top = 0
    for text, colour in lines:
        top += picture.write(text, 0, top, colour) + 1
