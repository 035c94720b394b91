"""AP of weighted images against pycocotools on images that really are there so many times."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tasks.detection.evaluation_of import evaluation_of
from tasks.detection.resampled_ap import resampled_ap
from tasks.image_results import ImageResults
from tests.tasks.report.conftest import random_boxes

IMAGES = 12
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def with_copies(results: ImageResults, weights: np.ndarray) -> list[float]:
    """The first six numbers of pycocotools, of a data set in which each image has so many copies."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, count in zip(results.arrays["image_ids"].tolist(), weights.tolist(), strict=True):
        for _ in range(count):
            images.append({"id": len(images) + 1, "width": 200, "height": 200})
            for own, *box, label, area, crowd in results.arrays["truth"].tolist():
                if own == image:
                    annotations.append(
                        {"id": len(annotations) + 1, "image_id": len(images), "category_id": int(label), "bbox": box,
                         "area": area, "iscrowd": int(crowd)}
                    )  # fmt: skip
            for own, *box, score, label in results.arrays["found"].tolist():
                if own == image:
                    found.append({"image_id": len(images), "category_id": int(label), "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        categories = [{"id": raw, "name": str(raw)} for raw in results.labels.ids]
        truth.dataset = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats[:6])


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_pycocotools_on_copies(seed: int) -> None:
    results = random_boxes(IMAGES, seed)
    matches = evaluation_of(results, "bbox").matches
    random = np.random.default_rng(seed)
    for weights in (np.ones(IMAGES, np.int64), np.bincount(random.integers(IMAGES, size=IMAGES), minlength=IMAGES)):
        ours = resampled_ap(matches, weights)
        assert [ours[name] for name in NAMES] == pytest.approx(with_copies(results, weights), abs=1e-12)


def test_weights_of_one_are_what_was_logged() -> None:
    results = random_boxes(IMAGES, 9)
    ours = resampled_ap(evaluation_of(results, "bbox").matches, np.ones(IMAGES, np.int64))
    assert len(ours) == 8
    assert ours == pytest.approx({name: results.metrics[name] for name in ours}, abs=1e-12)


def test_nothing_to_find_is_not_measured() -> None:
    results = random_boxes(IMAGES, 9)
    matches = evaluation_of(results, "bbox").matches
    assert set(resampled_ap(matches, np.zeros(IMAGES, np.int64)).values()) == {-1.0}
