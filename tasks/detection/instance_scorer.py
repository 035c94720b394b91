"""Scores instances: the COCO metric of masks beside that of boxes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from hotcoco import COCO

from heads.contract import Detections, Prediction
from tasks.config import Experiment
from tasks.data.annotations import Annotations
from tasks.detection.coco_metric import METRICS, Rows, score_instances
from tasks.detection.run_lengths import joined
from tasks.detection.scorer import DetectionScorer
from tasks.image_results import Arrays, Kind
from tasks.label_map import LabelMap
from tasks.prediction.from_torch import boxes_in
from tasks.task import Scorer

Sizes = dict[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Instances:
    """What was found in some images, small enough to be sent between processes.

    Attributes:
        rows: (N, 7) as from `detection_rows`.
        counts: N, run lengths of the masks.
        sizes: (height, width) of each image, by its id.
    """

    rows: Rows
    counts: list[str]
    sizes: Sizes


class InstanceScorer(Scorer):
    """What `DetectionScorer` gives of the boxes, and the same COCO numbers of the masks as "segm AP" and so on.

    An annotated object without an outline counts for boxes alone: where masks are scored, its box is a crowd region,
    so that what is found there is neither right nor wrong.
    """

    kind: ClassVar[Kind] = "instances"

    def __init__(self, head: str, config: Experiment, annotations: Annotations, labels: LabelMap) -> None:
        super().__init__(head, config, annotations, labels)
        self.boxes = DetectionScorer(head, config, annotations, labels)
        self.counts: list[str] = []
        self.sizes: Sizes = {}
        self._truth: COCO | None = None
        self._scored = Instances(np.empty((0, 7)), [], {})

    @property
    def main_metric(self) -> str:
        """AP of masks over IoU 0.5 to 0.95."""
        return "segm AP"

    @property
    def headline(self) -> tuple[str, ...]:
        """AP of masks and of boxes, and that of masks at IoU 0.5."""
        return ("segm AP", "segm AP50", "AP")

    def names(self) -> list[str]:
        """Those of the masks, then those of the boxes."""
        classes = [f"AP/{name}" for name in self.labels.names]
        return [f"segm {name}" for name in (*METRICS, *classes)] + self.boxes.names()

    def reset(self) -> None:
        """Forget all instances."""
        self.boxes.reset()
        self.counts, self.sizes = [], {}

    def add(self, index: int, prediction: Prediction) -> None:
        """Take the instances of image `index`."""
        assert isinstance(prediction, Detections)
        assert prediction.image_size is not None
        self.boxes.add(index, prediction)
        self.counts += boxes_in(prediction).run_lengths()
        self.sizes[self.annotations.image_id(index)] = prediction.image_size

    def collected(self) -> Instances:
        """What was added."""
        return Instances(self.boxes.collected(), self.counts, self.sizes)

    def metrics(self, collected: Sequence[Instances]) -> dict[str, float]:
        """The numbers of masks and boxes."""
        boxes = self.boxes.metrics([part.rows for part in collected])
        sizes = {image: size for part in collected for image, size in part.sizes.items()}
        if self._truth is None:
            self._truth = COCO(instance_truth(self.annotations, sizes))
        rows = [row for part in collected for row in part.rows.tolist()]
        counts = [own for part in collected for own in part.counts]
        self._scored = Instances(np.asarray(rows, np.float64).reshape(-1, 7), counts, sizes)
        masks = score_instances(self._truth, rows, counts, sizes)
        named = {f"segm {name}": value for name, value in masks.items()} | boxes
        return {name: named[name] for name in self.names()}

    def arrays(self) -> Arrays:
        """Those of the boxes, all `sizes`, and the run lengths of masks, see `joined`: `found_masks` and `truth_masks`;
        `truth_crowd` (M,), which of these are crowd regions where masks are scored.
        """
        arrays, truth = self.boxes.arrays(), self._truth
        assert truth is not None  # metrics have been asked for
        annotations = truth.load_anns(truth.get_ann_ids())
        ids = arrays["image_ids"].tolist()
        sizes = [self._scored.sizes.get(image) or self.annotations.size(row) or (0, 0) for row, image in enumerate(ids)]
        return {
            **arrays,
            "sizes": np.asarray(sizes, np.int32).reshape(-1, 2),
            "found_masks": joined(self._scored.counts),
            "truth_masks": joined([truth.ann_to_rle(own)["counts"].decode("ascii") for own in annotations]),
            "truth_crowd": np.array([own["iscrowd"] for own in annotations], np.bool_),
        }

    def notes(self) -> list[str]:
        """What FROC counted."""
        return self.boxes.notes()

    def draw(self, folder: Path) -> None:
        """The FROC curve, see `DetectionScorer`."""
        self.boxes.draw(folder)


def instance_truth(annotations: Annotations, sizes: Sizes) -> dict[str, Any]:
    """The split as a COCO ground truth of masks.

    Args:
        annotations: the split, read with outlines.
        sizes: (height, width) of images by id, for those whose annotations do not say it.
    """
    known = annotations.sizes.clone()
    for index, (height, width) in enumerate(known.tolist()):
        if not height or not width:
            known[index] = torch.tensor(sizes.get(annotations.image_id(index), (0, 0)))
    truth = replace(annotations, sizes=known).to_coco()
    for index, annotation in enumerate(truth["annotations"]):
        if not annotation.get("segmentation"):
            x1, y1, x2, y2 = annotations.boxes[index].tolist()
            annotation["segmentation"], annotation["iscrowd"] = [[x1, y1, x2, y1, x2, y2, x1, y2]], 1
    return truth
