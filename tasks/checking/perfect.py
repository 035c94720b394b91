"""The annotations handed to the metric as predictions: a perfect model must get a perfect score."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from hotcoco import mask as coco_mask

from heads.contract import IGNORED, Detections, ImageLabels, Prediction, SemanticMasks
from tasks.checking.finding import Finding, Kind, Place, first, some
from tasks.checking.looks import spread
from tasks.checking.subject import Subject
from tasks.classification.scorer import ClassificationScorer
from tasks.classification.truth import KnownLabels
from tasks.data.annotations import Annotations
from tasks.data.semantic import semantic_masks
from tasks.detection.coco_metric import detection_rows
from tasks.detection.instance_scorer import Instances, InstanceScorer
from tasks.detection.scorer import DetectionScorer
from tasks.kinds import task_of
from tasks.label_map import LabelMap
from tasks.segmentation.scorer import SegmentationScorer
from tasks.task import Scorer

IMAGES = 60
COUNTED = 100  # objects an image that the COCO metric counts
LABEL_METRICS = {
    "single": ("accuracy", "balanced_accuracy"),
    "multi": ("exact_match", "mAP"),
    "ordinal": ("QWK", "accuracy"),
    "regression": ("R2",),
}

Size = tuple[int, int]  # height and width

METRIC_NOT_PERFECT = Kind(
    "metric-not-perfect",
    "error",
    f"The annotations of up to {IMAGES} validation images, given as predictions, do not score exactly 1: AP of boxes, "
    "Dice and IoU of masks, accuracy (or exact match, kappa, R2) of labels.",
    "The metric does not measure what is annotated: boxes, masks or labels are read in two ways.",
)


def metric(subject: Subject) -> Iterator[Finding]:
    """What a perfect model would score."""
    for name, head in subject.config.heads.items():
        task = task_of(head)
        chosen = _chosen(subject, name)
        if not chosen:
            continue
        part = subject.val.select(chosen, subject.val.split)
        known = {look.index: look.size for look in subject.looks.of("val")}
        sizes = [known[index] for index in chosen]
        scorer = task.scorer(name, subject.config, part, subject.labels[name])
        if isinstance(scorer, InstanceScorer):
            scores = scorer.metrics([_instances(part, sizes, subject.labels[name])])
        else:
            scorer.reset()
            for row in range(len(part)):
                scorer.add(row, _truth(scorer, part, row, sizes[row]))
            scores = scorer.metrics([scorer.collected()])
        wrong = {metric: scores[metric] for metric in _expected(scorer) if scores[metric] not in (1.0, -1.0)}
        if wrong:
            shown = [f"{metric} {value:.6g}" for metric, value in wrong.items()]
            yield Finding(
                METRIC_NOT_PERFECT,
                f"head {name}: {some(shown)} on {len(part)} validation images",
                "exactly 1",
                "look at the pictures: which annotations differ between how they are read and how they are measured?",
                first([Place("val", index) for index in chosen]),
            )


def _chosen(subject: Subject, head: str) -> list[int]:
    """Validation images whose annotations can be found whole."""
    sizes = {look.index for look in subject.looks.of("val")}
    counts = np.diff(subject.val.offsets.numpy())
    boxes = task_of(subject.config.heads[head]).reads == "boxes"
    found = [index for index in spread(len(subject.val), 4 * IMAGES) if index in sizes]
    if boxes:
        found = [index for index in found if 0 < counts[index] <= COUNTED]
    elif subject.wanted.masks is not None:
        unusable = {mask.index for mask in subject.masks if mask.side == "val" and mask.problem}
        found = [index for index in found if index not in unusable]
    return sorted(found[:IMAGES])


def _expected(scorer: Scorer) -> tuple[str, ...]:
    """Metrics that must be 1."""
    if isinstance(scorer, InstanceScorer):
        return ("AP", "segm AP")
    if isinstance(scorer, DetectionScorer):
        return ("AP",)
    if isinstance(scorer, SegmentationScorer):
        return ("Dice", "mIoU", "pixel_accuracy")
    return LABEL_METRICS[scorer.target] if isinstance(scorer, ClassificationScorer) else ()


def _truth(scorer: Scorer, part: Annotations, row: int, size: Size) -> Prediction:
    """The annotations of an image as a prediction."""
    if isinstance(scorer, ClassificationScorer):
        known = KnownLabels.of(part, scorer.target).values[row]
        if scorer.target in ("single", "ordinal"):
            scores = torch.zeros(len(scorer.labels))
            scores[max(int(known), 0)] = 1.0
        else:
            scores = torch.from_numpy(np.nan_to_num(np.asarray(known, np.float32)))
        return ImageLabels(scores, scorer.target)
    if isinstance(scorer, SegmentationScorer):
        planes = semantic_masks(part, row, size, scorer.overlapping).transpose(2, 0, 1)
        return SemanticMasks(torch.from_numpy(np.where(planes == IGNORED, 0, planes).astype(np.uint8)))
    return _detections(part, row)


def _instances(part: Annotations, sizes: Sequence[Size], labels: LabelMap) -> Instances:
    """The annotated objects as found instances, with their masks as they are."""
    rows, counts = [], []
    for row, size in enumerate(sizes):
        rows.append(detection_rows([part.image_id(row)], [_detections(part, row)], labels))
        masks = part.masks(row, size)[~part.objects(row).crowd]
        counts += [coco_mask.encode(np.asfortranarray(mask))["counts"].decode("ascii") for mask in masks]
    by_id = {part.image_id(row): size for row, size in enumerate(sizes)}
    return Instances(np.concatenate(rows), counts, by_id)


def _detections(part: Annotations, row: int) -> Detections:
    objects = part.objects(row)
    kept = ~objects.crowd
    boxes, labels = torch.from_numpy(objects.boxes[kept]), torch.from_numpy(objects.labels[kept])
    return Detections(boxes, torch.ones(len(labels)), labels)
