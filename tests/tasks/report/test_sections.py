"""Curves, rankings and numbers of a report against scikit-learn and by hand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from tasks.image_results import ImageResults
from tasks.label_map import LabelMap
from tasks.report.blocks import Cell
from tasks.report.boxes import worst_boxes
from tasks.report.labels import label_blocks, precision_recall, roc, worst_labels
from tasks.report.masks import mask_blocks, worst_masks
from tasks.report.matrix import confusion_table
from tasks.report.numbers import DASH, duration, memory, metric
from tasks.report.provenance import cost_tiles
from tasks.report.resampling import distribution, draws, interval
from tests.tasks.report.conftest import box_results_of, random_boxes

Labels = Callable[..., ImageResults]


@pytest.mark.parametrize("digits", [1, 6])  # with and without equal scores
def test_curves_are_those_of_scikit_learn(digits: int) -> None:
    random = np.random.default_rng(0)
    present, scores = random.random(80) < 0.4, random.random(80).round(digits)
    precision, recall = precision_recall(present, scores)
    theirs = precision_recall_curve(present, scores)
    assert precision[::-1] == pytest.approx(theirs[0][:-1])
    assert recall[::-1] == pytest.approx(theirs[1][:-1])
    false, true, _ = roc_curve(present, scores, drop_intermediate=False)
    ours = roc(present, scores)
    assert ours[0] == pytest.approx(false)
    assert ours[1] == pytest.approx(true)


def test_draws_are_of_as_many_images_and_the_same_for_the_same_seed() -> None:
    first, again, other = (np.array(list(draws(9, 50, seed))) for seed in (0, 0, 1))
    assert (first.sum(axis=1) == 9).all()
    assert (first == again).all()
    assert (first != other).any()
    assert first.mean(axis=0) == pytest.approx(np.ones(9), abs=0.5)


def test_what_most_draws_cannot_measure_has_no_interval() -> None:
    def measure(weights: np.ndarray) -> dict[str, float]:
        """Only where the first image is there; in 1 - (1 - 1/n)^n of the draws, for n = 1,000 in 63 %."""
        return {"first": float(weights[0]) if weights[0] else -1.0, "pair": 1.0 if weights[0] > 1 else -1.0}

    values = distribution(measure, 1000, 200)
    assert interval(values["first"]) is not None
    assert np.nanmin(values["first"]) == 1
    assert interval(values["pair"]) is None  # in 26 %


def test_worst_labels(label_results: Labels) -> None:
    results = label_results(30)
    ranked = worst_labels(results)
    truth, scores = results.arrays["truth"], results.arrays["scores"]
    wrong = np.flatnonzero(scores.argmax(axis=1) != truth)
    assert [own.image for own in ranked] == [
        results.images[row] for row in sorted(wrong, key=lambda row: scores[row, truth[row]])
    ]
    row = int(results.images.index(ranked[0].image))
    right, taken = (f"class {int(k)}" for k in (truth[row], scores[row].argmax()))
    assert ranked[0].note.startswith(f"{right} taken for {taken}; probability of the right one 0.")


@pytest.mark.parametrize("target", ["multi", "regression", "ordinal"])
def test_labels_of_other_kinds(target: str, label_results: Labels) -> None:
    random = np.random.default_rng(0)
    scores = random.random((20, 3))
    if target == "ordinal":
        scores /= scores.sum(axis=1, keepdims=True)
    truth = {
        "multi": random.random((20, 3)) < 0.5,
        "regression": random.random((20, 3)),
        "ordinal": random.integers(3, size=20),
    }[target]
    results = label_results(20)
    arrays = {"index": np.arange(20), "truth": truth, "scores": scores}
    results = replace(results, options={"target": target}, arrays=arrays)
    assert label_blocks(results)
    ranked = worst_labels(results)
    assert ranked
    worst = results.images.index(ranked[0].image)
    if target == "regression":
        assert worst == (abs(scores - truth) / truth.std(axis=0)).max(axis=1).argmax()
    elif target == "multi":
        assert worst == abs(scores - truth).max(axis=1).argmax()


def test_no_labels_at_all(label_results: Labels) -> None:
    results = label_results(4)
    empty = {name: array[:0] for name, array in results.arrays.items()}
    for target in ("single", "multi", "ordinal", "regression"):
        truth = (
            np.zeros((0, 3), bool if target == "multi" else float)
            if target in ("multi", "regression")
            else empty["truth"]
        )
        none = replace(results, options={"target": target}, arrays={**empty, "truth": truth})
        assert worst_labels(none) == []
        label_blocks(none)


def test_worst_boxes() -> None:
    truth = [[1, 10, 10, 40, 40, 3, 1600, 0], [2, 10, 10, 40, 40, 3, 1600, 0], [2, 90, 10, 40, 40, 7, 1600, 0]]
    found = [
        [1, 10, 10, 40, 40, 0.9, 3],
        [2, 10, 10, 40, 40, 0.8, 3],
        [2, 90, 90, 40, 40, 0.7, 7],
        [3, 9, 9, 9, 9, 0.4, 3],
    ]
    ranked = worst_boxes(box_results_of(truth, found, 4))
    assert [(own.image, own.note) for own in ranked] == [
        ("image_2.png", "1 found, 1 missed, 1 wrong at a score of 0.5 or more")
    ]


def mask_results(counts: np.ndarray, overlapping: bool = False) -> ImageResults:
    images, classes = counts.shape[0], counts.shape[1] - 1
    labels = LabelMap(ids=tuple(range(classes)), names=tuple(f"class {k}" for k in range(classes)))
    unknown = np.full((images, classes), np.nan)
    arrays = {
        "index": np.arange(images), "counts": counts, "hd95": unknown, "surface_dice": unknown,
        "confusion": np.ones((classes + 1, classes + 1), np.int64),
    }  # fmt: skip
    options = {"overlapping": overlapping, "background": not overlapping}
    names = tuple(f"{number}.png" for number in range(images))
    return ImageResults("masks", "masks", "val", 1, labels, names, {}, frozenset(), "Dice", options, arrays)


def test_worst_masks() -> None:
    # In both, predicted, annotated; of background and two classes.
    counts = np.array([
        [[5, 5, 5], [8, 10, 10], [0, 0, 0]],  # 0.8, and not there
        [[5, 5, 5], [10, 10, 10], [10, 10, 10]],  # perfect
        [[5, 5, 5], [10, 10, 10], [0, 4, 0]],  # perfect, and made up
        [[5, 5, 5], [0, 0, 0], [0, 0, 0]],  # nothing to see
    ])  # fmt: skip
    ranked = worst_masks(mask_results(counts))
    assert [own.image for own in ranked] == ["2.png", "0.png"]
    assert ranked[1].note == "Dice: class 0 0.800"
    kinds = [block.kind for block in mask_blocks(mask_results(counts))]
    assert kinds == ["figures", "table"]
    assert [block.kind for block in mask_blocks(mask_results(counts, overlapping=True))] == ["figures"]
    assert worst_masks(mask_results(counts[3:])) == []


def test_many_classes_become_a_list_of_what_is_confused_most() -> None:
    matrix = np.diag(np.full(20, 9))
    matrix[3, 5], matrix[7, 1] = 4, 6
    table = confusion_table(matrix, [f"c{k}" for k in range(20)], "images", "")
    assert [tuple(row) for row in table.rows] == [("c7", "c1", "6", "40.0%"), ("c3", "c5", "4", "30.8%")]
    few = confusion_table(matrix[:8, :8], [f"c{k}" for k in range(8)], "images", "")
    assert isinstance(few.rows[3][6], Cell)
    assert (few.rows[3][6].text, few.rows[3][6].tone, few.rows[3][4].tone) == ("4", "bad", "good")


def test_cost_adds_up_the_parts_of_a_resumed_run() -> None:
    records = [
        {"step": step, "cost": {"seconds": seconds, "cpu_seconds": 2 * seconds, "memory": seconds * 2**20}}
        for step, seconds in ((1, 10.0), (2, 20.0), (3, 5.0), (4, 12.0))
    ]
    tiles = {tile.name: tile.value for tile in cost_tiles(records)}
    assert tiles == {"time": "32.0 s", "processor time": "1:04 min", "peak memory": "20 MiB"}
    assert cost_tiles([{"step": 1}]) == []


def test_numbers() -> None:
    assert [metric(value) for value in (0.12345, -1, float("nan"), 1234.5)] == ["0.123", DASH, DASH, "1234"]
    assert [duration(value) for value in (2.34, 61, 600, 3723)] == ["2.3 s", "1:01 min", "10:00 min", "1:02:03 h"]
    assert [memory(value) for value in (3 * 2**30, 5 * 2**20)] == ["3.0 GiB", "5 MiB"]


def test_random_boxes_have_errors() -> None:
    assert len(worst_boxes(random_boxes(10))) > 3
