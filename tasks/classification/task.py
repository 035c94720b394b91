"""Labels of whole images as a kind of target."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import numpy as np
from torch import Tensor

from heads.contract import ImageLabels, ImageSizes, Prediction, Reads
from tasks.classification.draw import GREY, classes_of, numbers_of, write_lines
from tasks.classification.metrics import PRESENT, decided
from tasks.classification.scorer import ClassificationScorer
from tasks.classification.truth import layout, require_labels
from tasks.data.annotations import Annotations
from tasks.drawing import Picture
from tasks.explanation.subject import Question, Subject
from tasks.label_map import LabelMap
from tasks.task import Scorer, Task


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
                write_lines(picture, numbers_of(own.astype(np.float64), labels) if known else [("not annotated", GREY)])
            case "multi":
                write_lines(picture, classes_of(np.flatnonzero(own).tolist(), labels))
            case _:
                write_lines(picture, classes_of([int(own)], labels) if own >= 0 else [("not annotated", GREY)])

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


def _logit(label: int, logits: Tensor) -> Tensor:
    return logits[label]
