"""Kinds of errors on boxes whose mistakes are known, and what mending them gains, measured by pycocotools."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from tasks.detection.error_kinds import confusion_at, error_kinds, image_counts, precision_curves
from tasks.detection.evaluation_of import evaluation_of
from tests.tasks.detection.test_resampled_ap import with_copies
from tests.tasks.report.conftest import box_results_of, random_boxes

RED, BLUE = 3.0, 7.0


def truth(image: int, x: float, label: float = RED) -> list[float]:
    return [image, x, 10, 40, 40, label, 1600, 0]


def found(image: int, x: float, score: float, label: float = RED) -> list[float]:
    return [image, x, 10, 40, 40, score, label]


# In the order of the kinds: one object each that is found wrongly in that way only; beside them some that are right.
# These score least, so that every wrong box before them costs precision.
RIGHT = ([truth(1, 100), truth(1, 150, BLUE)], [found(1, 100, 0.1), found(1, 150, 0.15, BLUE)])
WRONG = {
    "Classification": ([truth(2, 10)], [found(2, 11, 0.8, BLUE)]),
    "Localisation": ([truth(3, 10)], [found(3, 32, 0.81)]),
    "Both": ([truth(4, 10)], [found(4, 32, 0.82, BLUE)]),
    "Duplicate": ([truth(5, 10)], [found(5, 10, 0.99), found(5, 11, 0.83)]),
    "Background": ([truth(6, 10)], [found(6, 10, 0.2), found(6, 150, 0.84)]),
    "Missed": ([truth(7, 10)], []),
}


def results_of(parts):
    both = [*parts, RIGHT]
    return box_results_of([row for own, _ in both for row in own], [row for _, own in both for row in own], 7)


@pytest.mark.parametrize("kind", WRONG)
def test_a_single_mistake_is_told_by_its_kind(kind: str) -> None:
    counts = {own.name: own.count for own in error_kinds(evaluation_of(results_of([WRONG[kind]]), "bbox").coco)}
    # What is wrong in both ways covers no object, so that one is missed too (section 2.2 of the paper).
    also = {"Missed": 1} if kind == "Both" else {}
    assert counts == {**dict.fromkeys(WRONG, 0), kind: 1, **also}


# What the paper's oracle makes of each mistake: the class or the place is mended, or what cannot be mended is gone.
MENDED = {
    "Classification": ([truth(2, 10)], [found(2, 11, 0.8)]),
    "Localisation": ([truth(3, 10)], [found(3, 10, 0.81)]),
    "Both": ([truth(4, 10)], []),
    "Duplicate": ([truth(5, 10)], [found(5, 10, 0.99)]),
    "Background": ([truth(6, 10)], [found(6, 10, 0.2)]),
    "Missed": ([], []),
}


@pytest.mark.parametrize("kind", WRONG)
def test_the_cost_is_what_the_oracle_gains(kind: str) -> None:
    """With all mistakes there at once, mending one kind raises pycocotools' AP50 by what that kind is said to cost."""
    cost = {own.name: own.cost for own in error_kinds(evaluation_of(results_of(WRONG.values()), "bbox").coco)}
    every = np.ones(7, np.int64)
    before = with_copies(results_of(WRONG.values()), every)[1]
    parts = {**WRONG, kind: MENDED[kind]}
    if kind == "Missed":  # so is the object that is found wrongly in both ways
        parts["Both"] = ([], WRONG["Both"][1])
    after = with_copies(results_of(parts.values()), every)[1]
    assert after > before
    assert cost[kind] == pytest.approx(after - before, abs=1e-9)


def test_confusions_by_hand() -> None:
    matrix = confusion_at(evaluation_of(results_of(WRONG.values()), "bbox").coco, 0.0)
    # Red, blue, background: red ones are found 3 times, once as blue, and 3 times not at an IoU of 0.5.
    assert matrix.tolist() == [[3, 1, 3], [0, 1, 0], [3, 1, 0]]


def test_precision_curves_are_those_of_scikit_learn() -> None:
    results = random_boxes(30, 1)
    rows, ids = results.arrays["truth"], dict(zip(results.labels.names, results.labels.ids, strict=True))
    for name, curve in precision_curves(evaluation_of(results, "bbox").matches).items():
        label = ids[name]
        objects = int(((rows[:, 5] == label) & (rows[:, 7] == 0)).sum())
        precision, recall, _ = precision_recall_curve(curve.hits, curve.scores)
        assert curve.precision[::-1] == pytest.approx(precision[:-1])
        # scikit-learn does not know of the objects that nothing found.
        assert curve.recall[::-1] * objects / curve.hits.sum() == pytest.approx(recall[:-1])


def test_counts_of_images_by_hand() -> None:
    matches = evaluation_of(results_of(WRONG.values()), "bbox").matches
    everything = [[2, 0, 0], [0, 1, 1], [0, 1, 1], [0, 1, 1], [1, 0, 1], [1, 0, 1], [0, 1, 0]]
    assert image_counts(matches, 0.0).tolist() == everything
    # Those that are right score less in the first and sixth image.
    everything[0], everything[5] = [0, 2, 0], [0, 1, 1]
    assert image_counts(matches, 0.5).tolist() == everything
