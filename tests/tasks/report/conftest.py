"""Results of made-up models, without training any."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tasks.detection.coco_metric import score_detections
from tasks.detection.evaluation_of import evaluation_of
from tasks.image_results import ImageResults
from tasks.label_map import LabelMap

LABELS = LabelMap(ids=(3, 7), names=("red", "<script>alert(1)</script>"))
BoxResults = Callable[..., ImageResults]


def box_results_of(truth: Sequence[Sequence[float]], found: Sequence[Sequence[float]], images: int) -> ImageResults:
    """Rows as in `DetectionScorer.arrays`, of images 1 .. `images` of 200 x 200 px, with the metrics that follow."""
    arrays = {
        "image_ids": np.arange(1, images + 1),
        "sizes": np.full((images, 2), 200, np.int32),
        "truth": np.asarray(truth, np.float64).reshape(-1, 8),
        "found": np.asarray(found, np.float64).reshape(-1, 7),
    }
    names = tuple(f"image_{number}.png" for number in range(1, images + 1))
    results = ImageResults("boxes", "boxes", "val", 10, LABELS, names, {}, frozenset(), "AP", {}, arrays)
    metrics = score_detections(evaluation_of(results, "bbox").coco.coco_gt, arrays["found"])
    return ImageResults("boxes", "boxes", "val", 10, LABELS, names, metrics, frozenset(), "AP", {}, arrays)


def random_boxes(images: int, seed: int = 0, noise: float = 6.0) -> ImageResults:
    """Annotated boxes, a crowd region now and then, and detections beside, upon and far from them; scores differ."""
    random = np.random.default_rng(seed)
    truth: list[list[float]] = []
    found: list[list[float]] = []
    for image in range(1, images + 1):
        for _ in range(random.integers(0, 7)):
            x, y, w, h = *random.uniform(0, 120, 2), *random.uniform(10, 80, 2)
            label = float(random.choice(LABELS.ids))
            truth.append([image, x, y, w, h, label, w * h, float(random.random() < 0.1)])
            for _ in range(random.integers(0, 3)):
                moved = np.array([x, y, w, h]) + random.normal(0, noise, 4)
                kind = label if random.random() < 0.8 else float(random.choice(LABELS.ids))
                found.append([image, *moved[:2], *moved[2:].clip(4), random.random(), kind])
        for _ in range(random.integers(0, 3)):
            box = [*random.uniform(0, 120, 2), *random.uniform(10, 60, 2)]
            found.append([image, *box, random.random(), float(random.choice(LABELS.ids))])
    return box_results_of(truth, found, images)


@pytest.fixture
def label_results() -> Callable[..., ImageResults]:
    """`label_results(images, classes, seed)`: of single labels whose probabilities are right more often than not."""

    def make(images: int = 60, classes: int = 3, seed: int = 0, **changed: Any) -> ImageResults:
        from tasks.classification.label_measures import LOWER, LabelMeasures

        random = np.random.default_rng(seed)
        truth = random.integers(classes, size=images)
        logits = random.normal(size=(images, classes)) + 1.5 * (truth[:, None] == np.arange(classes))
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        labels = LabelMap(ids=tuple(range(classes)), names=tuple(f"class {k}" for k in range(classes)))
        names = tuple(f"{number}.png" for number in range(images))
        arrays = {"index": np.arange(images), "truth": truth, "scores": scores}
        metrics = LabelMeasures(labels, "single")(truth, scores)
        made: dict[str, Any] = {
            "head": "labels", "kind": "labels", "split": "val", "step": 10, "labels": labels, "images": names,
            "metrics": metrics, "lower": frozenset(LOWER), "main": "balanced_accuracy", "options": {"target": "single"},
            "arrays": arrays,
        }  # fmt: skip
        return ImageResults(**{**made, **changed})

    return make
