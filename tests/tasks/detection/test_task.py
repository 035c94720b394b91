"""Boxes required, scored, drawn and written."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import UserError
from heads import Detections
from tasks.config import Experiment, FasterRCNNConfig, MetricsConfig
from tasks.data.annotations import Annotations
from tasks.detection.coco_metric import score_detections
from tasks.detection.scorer import DetectionScorer
from tasks.detection.task import DetectionTask
from tasks.drawing import Picture, class_colour
from tasks.label_map import LabelMap
from tasks.prediction.from_torch import found_in

Build = Callable[..., Annotations]
LABELS = LabelMap(ids=(3, 7), names=("nodule", "cyst"))
IMAGES = [
    [((10, 10, 60, 60), 0, False), ((100, 20, 150, 90), 1, False)],
    [],
    [((30, 40, 90, 80), 1, False), ((100, 100, 190, 190), 1, True)],
]


def found(images: list[list[tuple[tuple[float, ...], float, int]]]) -> list[Detections]:
    return [
        Detections(
            torch.tensor([box for box, _, _ in rows], dtype=torch.float32).reshape(-1, 4),
            torch.tensor([score for _, score, _ in rows]),
            torch.tensor([label for _, _, label in rows], dtype=torch.int64),
        )
        for rows in images
    ]


PREDICTIONS = found(
    [
        [((10, 10, 60, 55), 0.9, 0), ((0, 150, 40, 190), 0.3, 1)],
        [((5, 5, 50, 50), 0.7, 0)],
        [((30, 40, 90, 85), 0.8, 1)],
    ]
)


def scorer_of(split: Annotations, **metrics: object) -> DetectionScorer:
    config = Experiment(heads={"boxes": FasterRCNNConfig()}, metrics=MetricsConfig.model_validate(metrics))
    return DetectionScorer("boxes", config, split, LABELS)


def test_scorer_over_processes(boxes_of: Build, tmp_path: Path) -> None:
    split = boxes_of(IMAGES, LABELS)
    scorer = scorer_of(split, froc_rates=(0.25, 0.5, 4))
    collected = []
    for rank in range(2):
        scorer.reset()
        for index in range(rank, len(split), 2):
            scorer.add(index, PREDICTIONS[index])
        collected.append(pickle.loads(pickle.dumps(scorer.collected())))
    metrics = scorer.metrics(collected)
    assert list(metrics) == scorer.names()
    coco = score_detections(split.to_coco(), np.concatenate(collected))
    assert {name: metrics[name] for name in coco} == coco
    # False positives: 0.7 in the second image, 0.3 in the first; hits: 0.9 and 0.8 of 3 objects.
    froc = {"sensitivity@0.25FP": 2 / 3, "sensitivity@0.5FP": 2 / 3, "sensitivity@4FP": 2 / 3, "FROC": 2 / 3}
    assert {name: metrics[name] for name in froc} == pytest.approx(froc)
    assert scorer.notes() == ["FROC: 2 of 3 objects in 3 images found at IoU 0.5 at any score, with 2 false positives"]
    scorer.draw(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["boxes_froc.png"]


def test_no_froc_unless_asked_for(boxes_of: Build, tmp_path: Path) -> None:
    scorer = scorer_of(boxes_of(IMAGES, LABELS))
    scorer.add(0, PREDICTIONS[0])
    metrics = scorer.metrics([scorer.collected()])
    assert list(metrics) == scorer.names()
    assert not [name for name in metrics if "FP" in name or name == "FROC"]
    scorer.draw(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert scorer.notes() == []


def test_scorer_starts_anew(boxes_of: Build) -> None:
    scorer = scorer_of(boxes_of(IMAGES, LABELS))
    scorer.add(0, PREDICTIONS[0])
    scorer.reset()
    assert scorer.collected().shape == (0, 7)
    assert scorer.metrics([scorer.collected()])["AP"] == 0


def test_a_split_without_boxes_is_refused(boxes_of: Build) -> None:
    DetectionTask.require(boxes_of(IMAGES, LABELS))
    with pytest.raises(UserError, match="memory: none of its 2 images has a box"):
        DetectionTask.require(boxes_of([[], []], LABELS))


def test_written_as_coco_results() -> None:
    rows = found_in(PREDICTIONS[0]).rows(LABELS)
    assert rows == [
        {"category_id": 3, "bbox": [10, 10, 50, 45], "score": 0.9},
        {"category_id": 7, "bbox": [0, 150, 40, 40], "score": 0.3},
    ]


def test_drawn_in_place_and_enlarged(boxes_of: Build) -> None:
    truth = Picture(np.zeros((600, 600, 3), np.uint8), 3)
    predicted = truth.copy()
    DetectionTask.draw_truth(truth, boxes_of(IMAGES, LABELS), 0, LABELS)
    DetectionTask.draw(predicted, PREDICTIONS[0], LABELS, 0.5)
    # The left side of the first box, in the middle of its height.
    for picture in (truth, predicted):
        np.testing.assert_array_equal(picture.pixels[3 * 35, 3 * 10], class_colour(0))
    np.testing.assert_array_equal(truth.pixels[3 * 60, 3 * 100], class_colour(1))
    assert not predicted.pixels[400:].any()  # the other one scores less than the threshold
    DetectionTask.draw(predicted, PREDICTIONS[0], LABELS, 0.3)
    np.testing.assert_array_equal(predicted.pixels[3 * 170, 3 * 40], class_colour(1))
