"""The metric against pycocotools: real files, and random cases over crowds, areas and detection limits."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from backbones import UserError
from heads import Detections
from tasks.detection.coco_metric import METRICS, detection_rows, score_detections, score_results_file
from tasks.label_map import LabelMap


def pycocotools_numbers(truth: dict[str, Any], results: Any, kind: str) -> tuple[list[float], dict[str, float]]:
    """The 12 numbers and AP by class, by the reference implementation."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    by_class = {}
    for index, category in enumerate(evaluation.params.catIds):
        precision = evaluation.eval["precision"][:, :, index, 0, -1]
        precision = precision[precision > -1]
        by_class[coco.cats[category]["name"]] = float(precision.mean()) if precision.size else -1.0
    return [float(value) for value in evaluation.stats], by_class


def random_case(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Ground truth with crowds, small to large areas and empty images, and detections near and far from it."""
    rng = np.random.default_rng(seed)
    raw_ids = [1, 3, 44]
    images = [{"id": 10 + index, "height": 480, "width": 640, "file_name": f"{index}.jpg"} for index in range(6)]
    annotations: list[dict[str, Any]] = []
    rows = []
    for image in images:
        for _ in range(int(rng.integers(0, 6))):
            width, height = np.exp(rng.uniform(np.log(5), np.log(300), 2))
            x, y = rng.uniform(0, 300, 2)
            category = int(rng.choice(raw_ids))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": [x, y, width, height],
                    # An outline covers less than its box, and the size classes go by this area.
                    "area": float(width * height * rng.uniform(0.4, 1)),
                    "iscrowd": int(rng.random() < 0.2),
                }
            )
            for _ in range(int(rng.integers(0, 3))):
                jitter = rng.normal(0, 0.15, 4) * [width, height, width, height]
                box = np.array([x, y, width, height]) + jitter
                box[2:] = np.maximum(box[2:], 1)
                rows.append([image["id"], *box, rng.random(), category if rng.random() < 0.8 else rng.choice(raw_ids)])
        strays = int(rng.integers(0, 130)) if rng.random() < 0.3 else 2  # sometimes more than 100 an image
        rows += [
            [image["id"], *rng.uniform(0, 300, 2), *rng.uniform(5, 200, 2), rng.random(), rng.choice(raw_ids)]
            for _ in range(strays)
        ]
    categories = [{"id": raw, "name": f"class {raw}"} for raw in raw_ids]
    return {"images": images, "annotations": annotations, "categories": categories}, np.array(rows)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_random_cases_equal_pycocotools(seed: int) -> None:
    truth, rows = random_case(seed)
    ours = score_detections(truth, rows)
    numbers, by_class = pycocotools_numbers(truth, rows, "bbox")
    assert [ours[name] for name in METRICS] == numbers
    assert {name: ours[f"AP/{name}"] for name in by_class} == pytest.approx(by_class, abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "file", "expected"),
    [
        ("bbox", "instances_val2014_fakebbox100_results.json", (0.5046, 0.6970, 0.5730)),
        ("segm", "instances_val2014_fakesegm100_results.json", (0.3195, 0.5623, 0.2989)),
    ],
)
def test_published_example(reference_data: Path, kind: Any, file: str, expected: tuple[float, ...]) -> None:
    folder = reference_data / "coco_eval"
    ours = score_results_file(folder / "instances_val2014_100.json", folder / file, kind)
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    numbers, _ = pycocotools_numbers(truth, json.loads((folder / file).read_text()), kind)
    assert [ours[name] for name in METRICS] == numbers
    assert [ours[name] for name in METRICS[:3]] == pytest.approx(expected, abs=5e-5)


def test_no_detection_scores_zero() -> None:
    truth, _ = random_case(1)
    assert {score_detections(truth, np.empty((0, 7)))[name] for name in METRICS[:3]} == {0.0}


def test_nothing_to_find_is_marked() -> None:
    truth, rows = random_case(1)
    assert score_detections({**truth, "annotations": []}, rows)["AP"] == -1


def test_truth_as_detections_scores_one() -> None:
    labels = LabelMap(ids=(7, 9), names=("a", "b"))
    boxes = torch.tensor([[10.0, 20.0, 60.0, 90.0], [100.0, 100.0, 140.0, 150.0]])
    found = Detections(boxes, torch.tensor([0.9, 0.8]), torch.tensor([1, 0]))
    truth = {
        "images": [{"id": 5, "height": 200, "width": 200, "file_name": "5.png"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 9, "bbox": [10, 20, 50, 70], "area": 3500, "iscrowd": 0},
            {"id": 2, "image_id": 5, "category_id": 7, "bbox": [100, 100, 40, 50], "area": 2000, "iscrowd": 0},
        ],
        "categories": [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}],
    }
    rows = detection_rows([5], [found], labels)
    assert score_detections(truth, rows)["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no such file"),
        ("{", "not json"),
        ("{}", "expected COCO results"),
        ('[{"image_id": 1}]', "lacks category_id, score, bbox"),
        ('[{"image_id": 99, "category_id": 1, "score": 1, "bbox": [0, 0, 1, 1]}]', "image id 99"),
    ],
)
def test_unusable_results_file(tmp_path: Path, content: str, message: str) -> None:
    annotations, results = tmp_path / "truth.json", tmp_path / "results.json"
    annotations.write_text(json.dumps(random_case(0)[0]))
    if message != "no such file":
        results.write_text(content)
    with pytest.raises(UserError, match=message):
        score_results_file(annotations, results, "bbox")
