"""Boxes with the mask of what is in them as a kind of target."""

from typing import ClassVar

from tasks.data.annotations import Annotations
from tasks.detection.draw import draw_outlines
from tasks.detection.instance_scorer import InstanceScorer
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
