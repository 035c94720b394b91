"""Which mistakes cost a detector its AP (Bolya et al., "TIDE", arXiv:2008.08115), and its precision and recall."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hotcoco import COCOeval

Floats = npt.NDArray[np.float64]

# Name in hotcoco, name here, what it is.
KINDS = (
    ("Cls", "Classification", "at the right place, of the wrong class"),
    ("Loc", "Localisation", "of the right class, at an IoU of 0.1 to 0.5"),
    ("Both", "Both", "of the wrong class, at an IoU of 0.1 to 0.5"),
    ("Dupe", "Duplicate", "right, but something better is there already"),
    ("Bkg", "Background", "where nothing is annotated"),
    ("Miss", "Missed", "annotated, and not found by a box, nor by one of the wrong class or place alone"),
)


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One kind of mistake.

    Attributes:
        name: of it.
        meaning: what it is.
        count: how many.
        cost: by how much AP50 would rise if all of this kind alone were mended, 0 .. 1.
    """

    name: str
    meaning: str
    count: int
    cost: float


def error_kinds(evaluation: COCOeval) -> list[ErrorKind]:
    """The six kinds, at an IoU of 0.5 with a background below 0.1, of all detections whatever they score."""
    found = evaluation.tide_errors(pos_thr=0.5, bg_thr=0.1)
    return [
        ErrorKind(name, meaning, int(found["counts"][key]), float(found["delta_ap"][key]))
        for key, name, meaning in KINDS
    ]


def confusion_at(evaluation: COCOeval, score: float) -> npt.NDArray[np.int64]:
    """(K + 1, K + 1) boxes that score at least `score`, matched at an IoU of 0.5 whatever their class; annotated ones
    by row. The last column is what was missed, the last row what was found on background.
    """
    return np.asarray(evaluation.confusion_matrix(iou_thr=0.5, min_score=score)["matrix"], np.int64)


def image_counts(evaluation: COCOeval, score: float) -> dict[int, tuple[int, int, int]]:
    """Found, missed and wrong ones of each image by its id, of detections that score at least `score`, at an IoU of 0.5
    and by class; crowd regions, and what lies in them, are left out. An image without any of these is not among them.
    """
    counts: dict[int, tuple[int, int, int]] = {}
    place = _place_of_half(evaluation)
    for image in _whole_images(evaluation):
        shown = np.asarray(image["dtScores"], np.float64) >= score
        counted = shown & ~np.asarray(image["dtIgnore"][place], np.bool_)
        right = int((counted & np.asarray(image["dtMatched"][place], np.bool_)).sum())
        objects = int((~np.asarray(image["gtIgnore"], np.bool_)).sum())
        before = counts.get(image["image_id"], (0, 0, 0))
        own = (right, objects - right, int(counted.sum()) - right)
        counts[image["image_id"]] = (before[0] + own[0], before[1] + own[1], before[2] + own[2])
    return counts


def _whole_images(evaluation: COCOeval) -> Iterator[dict[str, Any]]:
    """What matches what in the objects of a class in an image, whatever their size."""
    whole = tuple(evaluation.params.area_rng[0])
    for image in evaluation.eval_imgs:
        if image is not None and tuple(image["aRng"]) == whole:
            yield image


def _place_of_half(evaluation: COCOeval) -> int:
    """Of the IoU of 0.5 among all of them."""
    return int(np.argmin(abs(np.asarray(evaluation.params.iou_thrs) - 0.5)))


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionCurve:
    """Of one class at IoU 0.5.

    Attributes:
        recall: (D,) not falling.
        precision: (D,) at each.
        scores: (D,) of the detections, falling.
        hits: (D,) which of them are right.
    """

    recall: Floats
    precision: Floats
    scores: Floats
    hits: npt.NDArray[np.bool_]


def precision_curves(evaluation: COCOeval) -> dict[int, PrecisionCurve]:
    """Curve by raw category id, of classes that have something to find; what lies in a crowd region takes no part."""
    grouped: dict[int, list[dict[str, Any]]] = {}
    place = _place_of_half(evaluation)
    for image in _whole_images(evaluation):
        grouped.setdefault(image["category_id"], []).append(image)
    curves = {}
    for label in sorted(grouped):
        images = grouped[label]
        objects = sum(int((~np.asarray(image["gtIgnore"], np.bool_)).sum()) for image in images)
        if not objects:
            continue
        scores = np.concatenate([np.asarray(image["dtScores"], np.float64) for image in images])
        hits, ignored = (
            np.concatenate([np.asarray(image[key][place], np.bool_) for image in images])
            for key in ("dtMatched", "dtIgnore")
        )
        scores, hits = scores[~ignored], hits[~ignored]
        order = np.argsort(-scores, kind="stable")
        scores, hits = scores[order], hits[order]
        found = np.cumsum(hits)
        curves[label] = PrecisionCurve(found / objects, found / np.arange(1, len(hits) + 1), scores, hits)
    return curves
