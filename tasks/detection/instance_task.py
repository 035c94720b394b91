"""Boxes with the mask of what is in them as a kind of target."""

from pathlib import Path
from typing import Any, ClassVar

from heads.contract import Detections, Prediction
from heads.mask_pasting import paste_masks
from tasks.data.annotations import Annotations
from tasks.detection.draw import draw_outlines
from tasks.detection.instance_scorer import InstanceScorer
from tasks.detection.run_lengths import run_lengths
from tasks.detection.task import DetectionTask
from tasks.drawing import Picture
from tasks.label_map import LabelMap
from tasks.task import Scorer


class InstanceTask(DetectionTask):
    """Objects as boxes with classes and masks; what a head that reads outlines adds."""

    scorer: ClassVar[type[Scorer]] = InstanceScorer

    @staticmethod
    def draw_truth(picture: Picture, annotations: Annotations, index: int, labels: LabelMap) -> None:
        """Draw the annotated boxes and outlines of image `index`; an object without an outline is drawn as its box."""
        objects, outlined = annotations.objects(index), annotations.outlined(index)
        masks = annotations.masks(index, picture.image_size)
        draw_outlines(picture, masks[outlined], objects.labels[outlined])
        DetectionTask.draw_truth(picture, annotations, index, labels)

    @staticmethod
    def draw(picture: Picture, prediction: Prediction, labels: LabelMap, threshold: float) -> None:
        """Draw the boxes and masks that score at least `threshold`."""
        assert isinstance(prediction, Detections)
        kept = prediction.scores >= threshold
        drawn = prediction.chosen(kept)
        draw_outlines(picture, paste_masks(drawn), drawn.labels.cpu().numpy())
        DetectionTask.draw(picture, drawn, labels, threshold)

    @staticmethod
    def write(
        folder: Path, stem: str, image_id: int, file: str, prediction: Prediction, labels: LabelMap
    ) -> list[dict[str, Any]]:
        """All instances, whatever they score, as COCO's results json has them: `bbox` and `segmentation`."""
        assert isinstance(prediction, Detections)
        assert prediction.image_size is not None
        rows = DetectionTask.write(folder, stem, image_id, file, prediction, labels)
        size = list(prediction.image_size)
        masks = run_lengths(prediction)
        return [
            {**row, "segmentation": {"size": size, "counts": counts}} for row, counts in zip(rows, masks, strict=True)
        ]
