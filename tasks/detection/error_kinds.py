"""Which mistakes cost a detector its AP (Bolya et al., "TIDE", arXiv:2008.08115), and its precision and recall."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hotcoco import COCOeval

from tasks.detection.matches import Matches

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


def image_counts(matches: Matches, score: float) -> npt.NDArray[np.int64]:
    """(I, 3) found, missed and wrong ones of each image, of detections that score at least `score`, at an IoU of 0.5.

    Crowd regions, and what lies in them, are left out.
    """
    counts, half = np.zeros((len(matches.image_ids), 3), np.int64), matches.place_of(0.5)
    for (area, _), own in matches.by_place.items():
        if area:
            continue  # of some sizes only
        shown = own.counted[half] & (own.scores >= score)
        right = np.bincount(own.images[shown & own.hit[half]], minlength=len(counts))
        counts[:, 0] += right
        counts[:, 1] += own.objects - right
        counts[:, 2] += np.bincount(own.images[shown & ~own.hit[half]], minlength=len(counts))
    return counts


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


def precision_curves(matches: Matches) -> dict[str, PrecisionCurve]:
    """Curve by name of the class, of those that have something to find; what lies in a crowd region takes no part."""
    curves, half = {}, matches.place_of(0.5)
    for label, name in enumerate(matches.names):
        own = matches.by_place.get((0, label))
        objects = 0 if own is None else int(own.objects.sum())
        if own is None or not objects:
            continue
        counted = own.counted[half]
        scores, hits = own.scores[counted], own.hit[half][counted]
        found = np.cumsum(hits)
        curves[name] = PrecisionCurve(found / objects, found / np.arange(1, len(hits) + 1), scores, hits)
    return curves
