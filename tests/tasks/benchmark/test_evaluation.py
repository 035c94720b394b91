"""The comparison of evaluators: what is generated, and that equal numbers are found and others told."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.benchmark import evaluation
from tasks.benchmark.coco_case import CLASSES, HEIGHT, WIDTH, make_boxes, write_boxes, write_masks
from tasks.benchmark.evaluation import table_of
from tasks.benchmark.evaluators import Evaluated, evaluate


def test_generated_boxes_are_like_those_of_coco() -> None:
    truth, rows = make_boxes(500, 100)
    again, rows_again = make_boxes(500, 100)
    assert truth == again
    assert np.array_equal(rows, rows_again)
    annotations = truth["annotations"]
    assert len(annotations) == 3600
    assert {image["id"] for image in truth["images"]} >= {row["image_id"] for row in annotations}
    assert 0 < sum(row["iscrowd"] for row in annotations) < 0.03 * len(annotations)
    areas = np.array([row["area"] for row in annotations])
    shares = [((low < areas) & (areas <= high)).mean() for low, high in ((0, 32**2), (32**2, 96**2), (96**2, 1e9))]
    assert min(shares) > 0.2, "small, medium and large ones"
    assert rows.shape == (500 * 100, 7)
    images, counts = np.unique(rows[:, 0], return_counts=True)
    assert len(images) == 500
    assert set(counts) == {100}
    assert len(np.unique(rows[:, 6])) == len({row["category_id"] for row in annotations}) == CLASSES
    assert (rows[:, 3:5] > 0).all()
    assert ((rows[:, 5] > 0) & (rows[:, 5] < 1)).all()
    box = np.array([row["bbox"] for row in annotations])
    assert (box[:, :2] >= 0).all()
    assert (box[:, :2] + box[:, 2:] <= (WIDTH + 0.01, HEIGHT + 0.01)).all()


@pytest.mark.parametrize("write", [write_boxes, write_masks])
def test_evaluators_agree(write, tmp_path: Path) -> None:
    case, small = write(tmp_path, 40, 20), write(tmp_path, 2, 20)
    ours, theirs = (evaluate(name, case, small) for name in ("polyhead", "pycocotools"))
    assert ours.numbers == theirs.numbers
    assert 0.2 < ours.numbers[0] < 0.8, "neither all right nor all wrong"
    assert min(ours.numbers) > -1, "there is something of each size"
    table = table_of(case, {"polyhead": [ours], "pycocotools": [theirs]})
    assert [row[-1] for row in table.rows] == ["all equal", "reference"]
    other = replace(ours, numbers=(ours.numbers[0] + 1e-5, *ours.numbers[1:]))
    table = table_of(case, {"polyhead": [ours, other], "pycocotools": [theirs, theirs]})
    assert table.rows[0][-1] == "differ by 1e-05"
    assert table.figures[0]["furthest_from_reference"] == pytest.approx(1e-5)


def test_ratios_are_to_ours(tmp_path: Path) -> None:
    case = write_boxes(tmp_path, 2, 5)
    numbers = (0.5,) * 12
    found = {
        "polyhead": [Evaluated(0.5, 300 << 20, 100 << 20, numbers)],
        "pycocotools": [Evaluated(50.0, 500 << 20, 400 << 20, numbers)],
    }
    assert table_of(case, found).rows[1] == (
        *("pycocotools", "50.00", "50.00", "0%", "100.0", "400", "4.0", "500", "reference"),
    )


def test_an_evaluator_that_is_missing_is_told(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "MODULES", {"polyhead": "hotcoco", "faster-coco-eval": "no_such_module"})
    said = command("benchmark", "eval", "--only", "faster-coco-eval")
    assert "none of faster-coco-eval is installed" in said.complaint
    assert "faster-coco-eval is not installed and left out; pip install faster-coco-eval" in said.out


@pytest.mark.slow
def test_each_is_measured_in_a_process_of_its_own(command, tmp_path: Path) -> None:
    out = tmp_path / "eval.json"
    said = command("benchmark", "eval", "--images", "200", "--runs", "1", "--peer", "pycocotools", "--out", out)
    assert said.code == 0, said.error
    boxes, masks = json.loads(out.read_text())["tables"]
    assert "200 images, 1,440 annotated, 20,000 detections" in boxes["title"]
    assert "4,000 detections" in masks["title"]
    for table in (boxes, masks):
        ours, theirs = table["rows"]
        assert ours["numbers"] == theirs["numbers"]
        assert 0 < ours["own_bytes"] < theirs["own_bytes"]
        assert ours["seconds"] < theirs["seconds"]
    assert len(re.findall("all equal", said.out)) == 2
