"""What matches what in a COCO evaluation, in a few arrays: read once, measured and counted many times.

Shapes: T IoU thresholds, D detections, I images, A areas.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hotcoco import COCOeval


@dataclass(frozen=True, slots=True, eq=False)
class ClassMatches:
    """Detections of a class, and objects, of a range of sizes; detections by falling score.

    Attributes:
        images: (D,) row of each one's image.
        scores: (D,).
        hit: (T, D) whether it is right.
        counted: (T, D) whether it is right or wrong, and not ignored.
        objects: (I,) annotated ones of each image, those ignored left out.
    """

    images: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    hit: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Of a whole evaluation.

    Attributes:
        image_ids: I of them.
        names: of the classes, in the order of the evaluation.
        labels: their raw ids.
        thresholds: (T,) IoU.
        recalls: (R,) at which COCO's AP averages precision.
        by_place: matches by number of the area and of the class, of those that have an object or a detection.
    """

    image_ids: Sequence[int]
    names: Sequence[str]
    labels: Sequence[int]
    thresholds: npt.NDArray[np.float64]
    recalls: npt.NDArray[np.float64]
    by_place: Mapping[tuple[int, int], ClassMatches]

    @classmethod
    def of(cls, evaluation: COCOeval, image_ids: Sequence[int]) -> "Matches":
        """Those of an evaluation with COCO's own areas; `image_ids` in the order that rows are to have."""
        rows = {image: row for row, image in enumerate(image_ids)}
        parameters = evaluation.params
        areas = {tuple(area): number for number, area in enumerate(parameters.area_rng)}
        classes = {label: number for number, label in enumerate(parameters.cat_ids)}
        grouped: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        for image in evaluation.eval_imgs:
            if image is not None:
                grouped[areas[tuple(image["aRng"])], classes[image["category_id"]]].append(image)
        thresholds = np.asarray(parameters.iou_thrs, np.float64)
        named = {own["id"]: str(own["name"]) for own in evaluation.coco_gt.load_cats(parameters.cat_ids)}
        return cls(
            image_ids,
            [named[label] for label in parameters.cat_ids],
            list(parameters.cat_ids),
            thresholds,
            np.asarray(parameters.rec_thrs, np.float64),
            {place: _gather(images, rows, len(thresholds)) for place, images in grouped.items()},
        )

    def place_of(self, iou: float) -> int:
        """Which of the thresholds an IoU is."""
        return int(np.argmin(abs(self.thresholds - iou)))


def _gather(images: list[dict[str, Any]], rows: Mapping[int, int], thresholds: int) -> ClassMatches:
    images = sorted(images, key=lambda image: image["image_id"])
    scores = np.concatenate([np.asarray(image["dtScores"], np.float64) for image in images])
    order = np.argsort(-scores, kind="stable")  # as pycocotools sorts equal scores
    owner = np.concatenate([np.full(len(image["dtScores"]), rows[image["image_id"]], np.int64) for image in images])

    def together(key: str) -> npt.NDArray[np.bool_]:
        return np.concatenate([np.asarray(image[key], np.bool_).reshape(thresholds, -1) for image in images], axis=1)

    ignored, objects = together("dtIgnore")[:, order], np.zeros(len(rows), np.int64)
    for image in images:
        objects[rows[image["image_id"]]] = int((~np.asarray(image["gtIgnore"], np.bool_)).sum())
    hit = together("dtMatched")[:, order] & ~ignored
    return ClassMatches(owner[order], scores[order], hit, ~ignored, objects)
