"""Free-response ROC: how many of the annotated objects are found, at how many false alarms an image.

Chakraborty, "Maximum likelihood analysis of free-response receiver operating characteristic (FROC) data", 1989. Matched
as in LUNA16 (Setio et al., "Validation, comparison, and combination of algorithms for automatic detection of pulmonary
nodules in computed tomography images", 2017, sections 2.4 and 2.5), with boxes and IoU in place of points and radii.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hotcoco import mask as coco_mask

from tasks.data.annotations import Annotations, Objects
from tasks.detection.coco_metric import Rows
from tasks.label_map import LabelMap

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FrocCurve:
    """What remains of annotated objects and false positives as the threshold on the score sinks.

    Attributes:
        false_positives: (T,) an image, not falling, from 0.
        sensitivity: (T,) share of the annotated objects that are found, not falling, from 0.
        objects: number of annotated ones, crowd regions left out.
        images: number of them.
        iou: at which a box finds an object.
    """

    false_positives: Floats
    sensitivity: Floats
    objects: int
    images: int
    iou: float

    def sensitivity_at(self, rate: float) -> float:
        """Share of objects found at `rate` false positives an image, between two thresholds by straight line.

        Beyond the end of the curve there are no more detections, and the last value stays. -1 without any object.
        """
        return float(np.interp(rate, self.false_positives, self.sensitivity)) if self.objects else -1.0

    def describe(self) -> str:
        """One line of counts."""
        found, alarms = round(self.sensitivity[-1] * self.objects), round(self.false_positives[-1] * self.images)
        return (
            f"{found} of {self.objects} objects in {self.images} images found at IoU {self.iou:g} at any score, "
            f"with {alarms} false positives"
        )

    def draw(self, path: Path, rates: list[float]) -> None:
        """Write the curve as PNG, with the points at `rates` marked."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        low, high = min(rates) / 2, max(rates) * 2
        # The axis is logarithmic, so the curve is drawn at points of its own, from left of the smallest rate.
        shown = np.union1d(np.geomspace(low, high, 400), np.clip(self.false_positives, low, high))
        axes.plot(shown, [self.sensitivity_at(rate) for rate in shown.tolist()])
        axes.plot(rates, [self.sensitivity_at(rate) for rate in rates], "o", color="C0")
        axes.set_xscale("log", base=2)
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
        axes.set(xlim=(low, high), ylim=(0, 1.02), xlabel="false positives an image", ylabel="sensitivity")
        axes.set_title(f"FROC, IoU {self.iou:g}: {self.objects} objects in {self.images} images", fontsize=10)
        axes.grid(alpha=0.3)
        figure.savefig(path, dpi=120)


def froc_curve(annotations: Annotations, rows: Rows, labels: LabelMap, iou: float) -> FrocCurve:
    """The curve over all images and classes together.

    A detection finds an annotated box of its class at an IoU of at least `iou`. The box counts as found from the best
    score of those that find it; the others of them are neither hits nor false positives. A detection that finds nothing
    is a false positive, unless that share of it lies in a crowd region of its class, which is ignored.

    Args:
        annotations: the split.
        rows: of its detections, from `detection_rows`.
        labels: classes.
        iou: of a hit.
    """
    order = np.argsort(rows[:, 0], kind="stable")
    rows = rows[order]
    hits, alarms = [np.empty(0)], [np.empty(0)]
    for index in range(len(annotations)):
        start, end = np.searchsorted(rows[:, 0], [annotations.image_id(index), annotations.image_id(index) + 1])
        found, objects = rows[start:end], annotations.objects(index)
        for label in np.unique(found[:, 6]).tolist():
            image_hits, image_alarms = _match(found[found[:, 6] == label], objects, labels.ids.index(int(label)), iou)
            hits.append(image_hits)
            alarms.append(image_alarms)
    count = int((~annotations.crowd).sum())
    return _curve(np.concatenate(hits), np.concatenate(alarms), count, len(annotations), iou)


def _match(found: Rows, objects: Objects, label: int, iou: float) -> tuple[Floats, Floats]:
    """Scores at which boxes of a class are found in an image, and those of false positives."""
    own = objects.labels == label
    boxes = objects.boxes[own]
    boxes = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    crowd, scores = objects.crowd[own], found[:, 5]
    if not len(boxes):
        return np.empty(0), scores
    # In a crowd region it is the share of the detection that lies inside, as in the COCO metric.
    near = np.asarray(coco_mask.iou(found[:, 1:5], boxes, crowd)) >= iou
    best = np.where(near, scores[:, None], -np.inf).max(axis=0)[~crowd]
    return best[np.isfinite(best)], scores[~near.any(axis=1)]


def _curve(hits: Floats, alarms: Floats, objects: int, images: int, iou: float) -> FrocCurve:
    thresholds = np.unique(np.concatenate([hits, alarms]))[::-1]

    def above(scores: Floats) -> Floats:
        """How many reach each threshold, from none of them on."""
        reached = len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")
        return np.concatenate([[0.0], reached])

    return FrocCurve(above(alarms) / max(images, 1), above(hits) / max(objects, 1), objects, images, iou)
