"""Boxes as a kind of target."""

from pathlib import Path
from typing import Any, ClassVar

from backbones.errors import UserError
from heads.contract import Detections, Prediction, Reads
from tasks.data.annotations import Annotations
from tasks.detection.coco_metric import coco_results, detection_rows
from tasks.detection.draw import draw_boxes
from tasks.detection.scorer import DetectionScorer
from tasks.drawing import Picture
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
    def draw(picture: Picture, prediction: Prediction, labels: LabelMap, threshold: float) -> None:
        """Draw the boxes that score at least `threshold`."""
        assert isinstance(prediction, Detections)
        # numpy has no bfloat16, which another head may give under autocast.
        boxes, scores = (t.float().cpu().numpy() for t in (prediction.boxes, prediction.scores))
        kept = scores >= threshold
        draw_boxes(picture, boxes[kept], prediction.labels.cpu().numpy()[kept], labels, scores[kept])

    @staticmethod
    def write(
        folder: Path, stem: str, image_id: int, file: str, prediction: Prediction, labels: LabelMap
    ) -> list[dict[str, Any]]:
        """All boxes, whatever they score, as COCO's results json has them."""
        assert isinstance(prediction, Detections)
        rows = detection_rows([image_id], [prediction], labels)
        return [{**result, "file_name": file} for result in coco_results(rows)]
