"""Average precision of images that count more than once, without matching boxes again.

An image that is drawn twice gives its detections and its annotated objects twice. What matches what within it does not
change, so the matches of one COCO evaluation serve all draws: a sum of weights takes the place of a count.
Shapes: T IoU thresholds, D detections, I images, A areas.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hotcoco import COCOeval

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int64]
AREAS = {"": 0, "s": 1, "m": 2, "l": 3}  # ending of the metric, place among the areas of COCO


@dataclass(frozen=True, slots=True, eq=False)
class _Matches:
    """Detections of a class, by falling score.

    Attributes:
        images: (D,) row of each one's image.
        hit: (T, D) whether it is right.
        counted: (T, D) whether it is right or wrong, and not ignored.
        objects: (I,) annotated ones of each image, those ignored left out.
    """

    images: npt.NDArray[np.int64]
    hit: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]

    def precision(self, weights: Weights, recalls: Floats) -> Floats | None:
        """(T, R) highest precision at each recall or beyond; None where there is nothing to find."""
        objects = int(weights @ self.objects)
        if not objects:
            return None
        own = weights[self.images]
        found = np.cumsum(self.hit * own, axis=1)
        shown = np.cumsum(self.counted * own, axis=1)
        # As in pycocotools, whose tiny addition keeps what is not counted from a division by zero.
        precision = found / (shown + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        values = np.zeros((len(found), len(recalls)))
        for row, recall in enumerate(found / objects):
            places = np.searchsorted(recall, recalls, side="left")
            reached = places < len(recall)
            values[row, reached] = precision[row, places[reached]]
        return values


class ResampledAP:
    """AP, AP50, AP75, APs, APm, APl and `AP/<class>` of any weights of the images; those of all ones are COCO's.

    Args:
        evaluation: with the default parameters, evaluated.
        image_ids: I of them, in the order of the weights.
    """

    def __init__(self, evaluation: COCOeval, image_ids: Iterable[int]) -> None:
        rows = {image: row for row, image in enumerate(image_ids)}
        parameters = evaluation.params
        self._recalls = np.asarray(parameters.rec_thrs, np.float64)
        thresholds = np.asarray(parameters.iou_thrs, np.float64)
        self._at = {"AP50": int(np.argmin(abs(thresholds - 0.5))), "AP75": int(np.argmin(abs(thresholds - 0.75)))}
        names = {own["id"]: own["name"] for own in evaluation.coco_gt.load_cats(evaluation.coco_gt.get_cat_ids())}
        self.classes = [str(names[own]) for own in parameters.cat_ids]
        areas = [tuple(area) for area in parameters.area_rng]
        grouped: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        for image in evaluation.eval_imgs:
            if image is not None:
                place = areas.index(tuple(image["aRng"])), parameters.cat_ids.index(image["category_id"])
                grouped[place].append(image)
        self._matches = {place: _gather(images, rows, len(thresholds)) for place, images in grouped.items()}

    def __call__(self, weights: Weights) -> dict[str, float]:
        """Metric by name; -1 where there is nothing to find. `weights` (I,): how often each image counts."""
        named: dict[str, float] = {}
        for ending, area in AREAS.items():
            found = {
                label: values
                for label in range(len(self.classes))
                if (area, label) in self._matches
                and (values := self._matches[area, label].precision(weights, self._recalls)) is not None
            }
            stacked = np.stack(list(found.values())) if found else None  # (K, T, R)
            named[f"AP{ending}"] = -1.0 if stacked is None else float(stacked.mean())
            if not ending:
                for name, place in self._at.items():
                    named[name] = -1.0 if stacked is None else float(stacked[:, place].mean())
                for label, name in enumerate(self.classes):
                    named[f"AP/{name}"] = float(found[label].mean()) if label in found else -1.0
        return named


def _gather(images: list[dict[str, Any]], rows: dict[int, int], thresholds: int) -> _Matches:
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
    return _Matches(owner[order], hit, ~ignored, objects)
