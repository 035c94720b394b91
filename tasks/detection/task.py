"""Boxes as a kind of target."""

from functools import partial
from typing import ClassVar

from torch import Tensor

from backbones.errors import UserError
from heads.contract import Detections, ImageSizes, Prediction, Reads
from tasks.data.annotations import Annotations
from tasks.detection.draw import draw_boxes
from tasks.detection.scorer import DetectionScorer
from tasks.drawing import Picture
from tasks.explanation.subject import Question, Subject
from tasks.label_map import LabelMap
from tasks.task import Scorer, Task


class DetectionTask(Task):
    """Objects as boxes with classes."""

    reads: ClassVar[Reads] = "boxes"
    scorer: ClassVar[type[Scorer]] = DetectionScorer

    @staticmethod
    def require(annotations: Annotations) -> None:
        """Raise `UserError` when no image of the split has a box."""
        if not len(annotations.boxes):
            raise UserError(
                f"{annotations.report.source}: none of its {len(annotations)} images has a box; "
                "a detection head learns from COCO json or Pascal VOC boxes; give it such data, or choose another head"
            )

    @staticmethod
    def draw_truth(picture: Picture, annotations: Annotations, index: int, labels: LabelMap) -> None:
        """Draw the annotated boxes of image `index`."""
        objects = annotations.objects(index)
        draw_boxes(picture, objects.boxes, objects.labels, labels)

    @staticmethod
    def subjects(prediction: Prediction, sizes: ImageSizes, labels: LabelMap, question: Question) -> list[Subject]:
        """The boxes that score at least the threshold, best first; of the classes asked for, if any were."""
        assert isinstance(prediction, Detections)
        rows = zip(prediction.scores.tolist(), prediction.labels.tolist(), prediction.boxes, strict=True)
        subjects = [
            (score, Subject(f"{labels.names[label]} {score:.2f}", label, partial(_logit, row, label), box=box))
            for row, (score, label, box) in enumerate(rows)
            if score >= question.threshold and (question.classes is None or label in question.classes)
        ]
        subjects.sort(key=lambda scored: -scored[0])
        return [subject for _, subject in subjects[: question.top]]


def _logit(row: int, label: int, logits: Tensor) -> Tensor:
    return logits[row, label]
