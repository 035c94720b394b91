"""Differences are found, named, and not invented."""

from dataclasses import replace

import numpy as np
import pytest

from backbones import UserError
from tasks.config import DataConfig
from tasks.export.parity import Difference, detection_differences, image_differences, require_parity, summary
from tasks.image_spec import ImageSpec
from tasks.label_map import LabelMap
from tasks.prediction.description import HeadDescription, ModelDescription
from tasks.prediction.found import Found
from tasks.prediction.found_boxes import FoundBoxes
from tasks.prediction.found_labels import FoundLabels
from tasks.prediction.found_masks import FoundMasks

LABELS = LabelMap(ids=(1, 2), names=("a", "b"))


def some_boxes(count: int = 20) -> FoundBoxes:
    random = np.random.default_rng(0)
    corner = random.random((count, 2)) * 100
    boxes = np.concatenate([corner, corner + 20], axis=1).astype(np.float32)
    scores = np.linspace(0.9, 0.1, count, dtype=np.float32)
    cells = random.random((count, 4, 4)).astype(np.float32)
    return FoundBoxes(boxes, scores, random.integers(0, 2, count), (130, 130), cells)


def model(kind: str, target: str = "") -> ModelDescription:
    head = HeadDescription(kind=kind, labels=LABELS, target=target)  # type: ignore[arg-type]
    return ModelDescription(name="x", heads={"x": head}, image=ImageSpec(), data=DataConfig(), divisor=32)


def test_the_same_in_another_order() -> None:
    found = some_boxes()
    shuffled = found.chosen(np.random.default_rng(1).permutation(len(found)))
    assert detection_differences(found, shuffled) == {"boxes": 0, "scores": 0, "cells": 0, "missing": 0}


def test_differences_are_measured() -> None:
    found = some_boxes()
    moved, sure, cells = found.boxes.copy(), found.scores.copy(), found.cells
    assert cells is not None
    moved[3, 2] += 2
    sure[5] += 0.004
    other = FoundBoxes(
        moved, sure, found.labels, found.image_size, np.where(np.arange(20)[:, None, None] == 7, 0, cells)
    )
    apart = detection_differences(found, other)
    assert apart["boxes"] == pytest.approx(2, abs=1e-4)
    assert apart["scores"] == pytest.approx(0.004, abs=1e-6)
    assert apart["cells"] == pytest.approx(cells[7].max())
    assert apart["missing"] == 0


def test_what_is_missing_counts_unless_it_is_the_worst() -> None:
    found = some_boxes()
    rows = np.arange(20)
    assert detection_differences(found, found.chosen(rows != 4))["missing"] == 1
    assert detection_differences(found.chosen(rows != 4), found)["missing"] == 1
    assert detection_differences(found, replace(found, labels=1 - found.labels))["missing"] == 38
    nearly = replace(found, scores=np.where(rows == 18, 0.1005, found.scores).astype(np.float32))
    assert detection_differences(nearly, nearly.chosen(rows != 18))["missing"] == 0
    none = found.chosen(rows < 0)
    assert detection_differences(none, none)["missing"] == 0


def test_a_few_flips_pass_and_more_do_not() -> None:
    found, rows = some_boxes(40), np.arange(40)
    for left_out, passes in ((2, True), (3, True), (6, False)):
        (missing,) = [
            one
            for one in image_differences("a.png", {"x": found}, {"x": found.chosen(rows >= left_out)}, model("boxes"))
            if one.output == "x/missing"
        ]
        assert (missing.value, missing.passes) == (left_out, passes)


def test_labels_numbers_and_masks() -> None:
    def apart(kind: str, target: str, expected: Found, found: Found) -> Difference:
        (one,) = image_differences("a.png", {"x": expected}, {"x": found}, model(kind, target))
        return one

    scores = np.array([0.25, 0.75], np.float32)
    assert apart("labels", "single", FoundLabels(scores), FoundLabels(scores)).value == 0
    one = apart("labels", "single", FoundLabels(scores), FoundLabels(scores + np.float32(0.01)))
    assert (one.output, one.passes) == ("x/scores", False)
    large = FoundLabels(np.array([1000.0, 0.1], np.float32), "regression")
    near = FoundLabels(np.array([1000.5, 0.1], np.float32), "regression")
    assert apart("labels", "regression", large, near).value == pytest.approx(0.0005)
    mask = np.zeros((1, 10, 10), np.uint8)
    other = mask.copy()
    other[0, 0, :3] = 2
    assert apart("masks", "multiclass", FoundMasks(mask), FoundMasks(other)).value == pytest.approx(0.03)


def test_failures_say_where() -> None:
    good, bad = Difference("a.png", "x/boxes", 0.1, 0.5), Difference("b.png", "x/boxes", 3.25, 0.5)
    nothing = Difference("c.png", "x/scores", float("nan"), 1e-3)
    require_parity([good], "m.onnx")
    with pytest.raises(UserError, match=r"m\.onnx .* in 1 of 2 images: x/boxes differs by 3\.25 in b\.png \(tolerance"):
        require_parity([good, bad], "m.onnx")
    assert summary([good, bad]) == [bad]
    with pytest.raises(UserError, match=r"x/scores differs by nan in c\.png"):
        require_parity([Difference("a.png", "x/scores", 0, 1e-3), nothing, good], "m.onnx")
