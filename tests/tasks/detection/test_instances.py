"""Instances scored against pycocotools, written and drawn."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from heads import Detections
from tasks.config import Experiment, MaskRCNNConfig
from tasks.data.annotations import Annotations
from tasks.data.segments import SegmentsBuilder
from tasks.detection.coco_metric import METRICS, detection_rows, score_instances
from tasks.detection.instance_scorer import InstanceScorer
from tasks.detection.instance_task import InstanceTask
from tasks.drawing import Picture, class_colour
from tasks.kinds import task_of
from tasks.label_map import LabelMap
from tasks.prediction.from_torch import boxes_in, found_in
from tests.tasks.detection.test_coco_metric import pycocotools_numbers

Build = Callable[..., Annotations]
LABELS = LabelMap(ids=(3, 7), names=("nodule", "cyst"))
SIZE = (200, 200)


def triangle(box: tuple[float, float, float, float]) -> list[list[float]]:
    x1, y1, x2, y2 = box
    return [[x1, y1, x2, y1, x1, y2]]


def random_split(seed: int, boxes_of: Build, lacking: float = 0.0) -> tuple[Annotations, list[Detections]]:
    """Triangles in six images, some of them crowds, a share without outline; and detections near them."""
    rng = np.random.default_rng(seed)
    images: list[list[Any]] = []
    for _ in range(6):
        corner, sides = rng.uniform(0, 90, (5, 2)), np.exp(rng.uniform(np.log(12), np.log(105), (5, 2)))
        count = int(rng.integers(0, 6))
        boxes = np.concatenate([corner, corner + sides], 1)[:count]
        images.append([(tuple(box), int(rng.integers(0, 2)), bool(rng.random() < 0.15)) for box in boxes.tolist()])
    builder = SegmentsBuilder()
    for box, _, _ in (entry for entries in images for entry in entries):
        builder.add(None if rng.random() < lacking else triangle(box), SIZE)
    found = []
    cells = (torch.arange(28)[:, None] + torch.arange(28) < 28).float()
    for entries in images:
        near = [(box, label) for box, label, _ in entries for _ in range(int(rng.integers(0, 3)))]
        near.append(((20.0, 20.0, 90.0, 70.0), 0))
        boxes = torch.tensor([box for box, _ in near]) + torch.from_numpy(rng.normal(0, 4, (len(near), 4))).float()
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        masks = (cells.expand(len(near), -1, -1) + torch.from_numpy(rng.normal(0, 0.2, (len(near), 28, 28)))).clamp(
            0, 1
        )
        scores = torch.from_numpy(rng.random(len(near))).float()
        found.append(Detections(boxes, scores, torch.tensor([label for _, label in near]), masks.float(), SIZE))
    split = boxes_of(images, LABELS)
    areas = split.areas / 2
    return replace(split, segments=builder.build(), areas=areas), found


def scorer_of(split: Annotations, **metrics: object) -> InstanceScorer:
    config = Experiment.model_validate({"heads": {"out": MaskRCNNConfig()}, "metrics": metrics})
    return InstanceScorer("out", config, split, LABELS)


@pytest.mark.parametrize("seed", range(4))
def test_over_processes_as_pycocotools(seed: int, boxes_of: Build) -> None:
    split, found = random_split(seed, boxes_of)
    scorer = scorer_of(split)
    for _ in range(2):  # a second evaluation gives the same
        collected = []
        for rank in range(2):
            scorer.reset()
            for index in range(rank, len(split), 2):
                scorer.add(index, found[index])
            sent = pickle.dumps(scorer.collected())
            assert len(sent) < 20_000
            collected.append(pickle.loads(sent))
        metrics = scorer.metrics(collected)
    assert list(metrics) == scorer.names()
    results = [
        {
            "image_id": split.image_id(index),
            "category_id": LABELS.ids[int(one.labels[row])],
            "score": float(one.scores[row]),
            "segmentation": coco_mask.encode(mask),
        }
        for index, one in enumerate(found)
        for row, mask in enumerate(boxes_in(one).masks())
    ]
    numbers, by_class = pycocotools_numbers(split.to_coco(), results, "segm")
    assert [metrics[f"segm {name}"] for name in METRICS] == numbers
    assert {name: metrics[f"segm AP/{name}"] for name in by_class} == pytest.approx(by_class, abs=1e-12)
    rows = detection_rows(split.image_ids.tolist(), found, LABELS)
    numbers, _ = pycocotools_numbers(replace(split, segments=None).to_coco(), rows, "bbox")
    assert [metrics[name] for name in METRICS] == numbers
    assert metrics["segm AP"] > 0.05
    assert metrics["segm AP"] != metrics["AP"]


def test_sizes_that_the_annotations_do_not_tell(boxes_of: Build) -> None:
    split, found = random_split(0, boxes_of)
    metrics = []
    for sizes in (split.sizes, torch.zeros_like(split.sizes)):
        scorer = scorer_of(replace(split, sizes=sizes))
        for index, one in enumerate(found):
            scorer.add(index, one)
        metrics.append(scorer.metrics([scorer.collected()]))
    assert metrics[0] == metrics[1]


def test_an_object_without_an_outline_is_neither_found_nor_missed(boxes_of: Build) -> None:
    """By masks; as a box it counts."""
    box = (10.0, 10.0, 60.0, 60.0)
    split = boxes_of([[(box, 0, False), ((100.0, 100.0, 160.0, 150.0), 0, False)]], LABELS)
    builder = SegmentsBuilder()
    builder.add(None, SIZE)
    builder.add([[100, 100, 160, 100, 160, 150, 100, 150]], SIZE)
    split = replace(split, segments=builder.build())
    boxes = torch.tensor([[100.0, 100, 160, 150], box])
    for scores, expected in (([0.5, 0.9], 1.0), ([0.5], 1.0)):
        count = len(scores)
        cells = torch.ones(count, 28, 28)
        found = Detections(boxes[:count], torch.tensor(scores), torch.zeros(count).long(), cells, SIZE)
        scorer = scorer_of(split)
        scorer.add(0, found)
        metrics = scorer.metrics([scorer.collected()])
        assert metrics["segm AP50"] == pytest.approx(expected)
        assert metrics["AP50"] == pytest.approx(1.0 if count == 2 else 0.5, abs=0.01)


def test_nothing_found_scores_zero(boxes_of: Build) -> None:
    split, _ = random_split(1, boxes_of)
    scorer = scorer_of(split, froc_rates=(1.0,))
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), torch.zeros(0, 28, 28), SIZE)
    for index in range(len(split)):
        scorer.add(index, none)
    metrics = scorer.metrics([scorer.collected()])
    assert list(metrics) == scorer.names()
    assert (metrics["segm AP"], metrics["AP"], metrics["FROC"]) == (0, 0, 0)


def test_written_as_coco_results(boxes_of: Build) -> None:
    assert task_of(MaskRCNNConfig()) is InstanceTask
    _, (found, *_) = random_split(2, boxes_of)
    rows = found_in(found).rows(LABELS)
    assert len(rows) == len(found.boxes)
    for row, mask in zip(rows, boxes_in(found).masks(), strict=True):
        assert row.keys() == {"category_id", "bbox", "score", "segmentation"}
        assert row["segmentation"]["size"] == [200, 200]
        assert row["segmentation"]["counts"] == coco_mask.encode(mask)["counts"].decode()


def test_drawn_in_place(boxes_of: Build) -> None:
    box = (20.0, 30.0, 120.0, 130.0)
    split = boxes_of([[(box, 0, False), ((130.0, 130.0, 190.0, 190.0), 1, False)]], LABELS)
    builder = SegmentsBuilder()
    builder.add(triangle(box), SIZE)
    builder.add(None, SIZE)
    truth = Picture(np.zeros((600, 600, 3), np.uint8), 3)
    predicted = truth.copy()
    InstanceTask.draw_truth(truth, replace(split, segments=builder.build()), 0, LABELS)
    cells = (torch.arange(28)[:, None] + torch.arange(28) < 27).float()
    found = Detections(
        torch.tensor([box, box]), torch.tensor([0.9, 0.2]), torch.tensor([0, 1]), cells.expand(2, -1, -1), SIZE
    )
    InstanceTask.draw(predicted, found, LABELS, 0.5)
    tint = np.round(0.4 * np.array(class_colour(0)))
    for picture in (truth, predicted):
        np.testing.assert_array_equal(picture.pixels[3 * 60, 3 * 40], tint)  # inside the triangle
        assert not picture.pixels[3 * 120, 3 * 100].any()  # inside its box alone
    assert not truth.pixels[3 * 160, 3 * 160].any()  # a box without an outline is not filled
    np.testing.assert_array_equal(truth.pixels[3 * 160, 3 * 130], class_colour(1))


def test_published_example(reference_data: Path) -> None:
    folder = reference_data / "coco_eval"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    rows = [[row["image_id"], 0, 0, 0, 0, row["score"], row["category_id"]] for row in results]
    counts = [row["segmentation"]["counts"] for row in results]
    sizes = {row["image_id"]: tuple(row["segmentation"]["size"]) for row in results}
    found = score_instances(truth, rows, counts, sizes)
    assert [found[name] for name in METRICS[:3]] == pytest.approx((0.3195, 0.5623, 0.2989), abs=5e-5)
    numbers, _ = pycocotools_numbers(truth, results, "segm")
    assert [found[name] for name in METRICS] == numbers
