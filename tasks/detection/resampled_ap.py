"""Average precision of images that count more than once, without matching boxes again.

An image that is drawn twice gives its detections and its annotated objects twice. What matches what within it does not
change, so the matches of one COCO evaluation serve all draws: a sum of weights takes the place of a count.
Shapes: T IoU thresholds, D detections, I images, R recalls.
"""

import numpy as np
import numpy.typing as npt

from tasks.detection.matches import ClassMatches, Matches

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int64]
AREAS = {"": 0, "s": 1, "m": 2, "l": 3}  # ending of the metric, place among the areas of COCO


def resampled_ap(matches: Matches, weights: Weights) -> dict[str, float]:
    """AP, AP50, AP75, APs, APm, APl and `AP/<class>` of weights of the images; those of all ones are COCO's.

    Args:
        matches: of the images.
        weights: (I,), how often each image counts.

    Returns:
        Metric by name; -1 where there is nothing to find.
    """
    named: dict[str, float] = {}
    for ending, area in AREAS.items():
        found = {
            label: values
            for label in range(len(matches.names))
            if (area, label) in matches.by_place
            and (values := _precision(matches.by_place[area, label], weights, matches.recalls)) is not None
        }
        stacked = np.stack(list(found.values())) if found else None  # (K, T, R)
        named[f"AP{ending}"] = -1.0 if stacked is None else float(stacked.mean())
        if not ending:
            for name, iou in (("AP50", 0.5), ("AP75", 0.75)):
                named[name] = -1.0 if stacked is None else float(stacked[:, matches.place_of(iou)].mean())
            for label, name in enumerate(matches.names):
                named[f"AP/{name}"] = float(found[label].mean()) if label in found else -1.0
    return named


def _precision(matches: ClassMatches, weights: Weights, recalls: Floats) -> Floats | None:
    """(T, R) highest precision at each recall or beyond; None where there is nothing to find."""
    objects = int(weights @ matches.objects)
    if not objects:
        return None
    own = weights[matches.images]
    found = np.cumsum(matches.hit * own, axis=1)
    shown = np.cumsum(matches.counted * own, axis=1)
    # As in pycocotools, whose tiny addition keeps what is not counted from a division by zero.
    precision = found / (shown + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    values = np.zeros((len(found), len(recalls)))
    for row, recall in enumerate(found / objects):
        places = np.searchsorted(recall, recalls, side="left")
        reached = places < len(recall)
        values[row, reached] = precision[row, places[reached]]
    return values
