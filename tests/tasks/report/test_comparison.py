"""Paired differences against SciPy's bootstrap, verdicts, refusals, and the tool."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from backbones import UserError
from tasks.image_results import ImageResults
from tasks.label_map import LabelMap
from tasks.report.comparison import Difference, differences_of, require_same_images, verdict
from tasks.report.measures import measure_of, scored_images
from tasks.report.resampling import distribution, interval
from tests.tasks.report.conftest import random_boxes
from tests.tasks.report.test_report import check

Labels = Callable[..., ImageResults]


def accuracy(results: ImageResults) -> np.ndarray:
    return (results.arrays["scores"].argmax(axis=1) == results.arrays["truth"]).astype(float)


def other_scores(results: ImageResults, seed: int, noise: float = 1.0) -> ImageResults:
    """Another model of the same images."""
    logits = np.log(results.arrays["scores"]) + np.random.default_rng(seed).normal(
        0, noise, results.arrays["scores"].shape
    )
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    arrays = {**results.arrays, "scores": scores}
    metrics = measure_of(replace(results, arrays=arrays))(np.ones(len(scores), np.int64))
    return replace(results, arrays=arrays, metrics=dict(metrics))


def test_intervals_are_those_of_scipy(label_results: Labels) -> None:
    results = label_results(200)
    ours = interval(distribution(measure_of(results), 200, 4000)["accuracy"])
    right = accuracy(results)
    theirs = scipy.stats.bootstrap((right,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_paired_differences_are_those_of_scipy(label_results: Labels) -> None:
    first = label_results(200)
    other = other_scores(first, 5)
    found = {row.metric: row for row in differences_of(first, [other], 4000)[0]}
    assert next(iter(found)) == "balanced_accuracy"
    change = accuracy(other) - accuracy(first)
    assert found["accuracy"].value == pytest.approx(change.mean())
    theirs = scipy.stats.bootstrap((change,), np.mean, n_resamples=4000, method="percentile", rng=1)
    ours = found["accuracy"]
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.006)
    draws = theirs.bootstrap_distribution
    assert ours.better == pytest.approx((draws > 0).mean() + 0.5 * (draws == 0).mean(), abs=0.02)
    assert found["ECE"].lower
    assert not ours.lower


def test_the_order_of_images_does_not_matter(label_results: Labels) -> None:
    first = label_results(50)
    other = other_scores(first, 5)
    order = np.random.default_rng(0).permutation(50)
    names = tuple(first.images[row] for row in order)
    arrays = {"index": np.arange(50), "truth": other.arrays["truth"][order], "scores": other.arrays["scores"][order]}
    shuffled = replace(other, images=names, arrays=arrays)
    require_same_images(first, shuffled, ("a", "b"))
    for ours, theirs in zip(*(differences_of(first, [own], 50)[0] for own in (shuffled, other)), strict=True):
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), nan_ok=True)


def test_a_run_is_not_better_than_itself() -> None:
    results = random_boxes(10)
    (rows,) = differences_of(results, [results], 30)
    assert {row.value for row in rows if row.before != -1} == {0.0}
    assert rows[0].better == 0.5
    assert verdict(rows[0], ("a", "b")).startswith("b and a cannot be told apart: b has +0.000 AP")


def test_better_boxes_are_told() -> None:
    worse = random_boxes(30, 0, noise=9.0)
    arrays = {**worse.arrays, "found": worse.arrays["found"].copy()}
    # Upon the annotated ones where there are any: all of them found at the highest score.
    truth = worse.arrays["truth"][worse.arrays["truth"][:, 7] == 0]
    arrays["found"] = np.column_stack([truth[:, :5], np.linspace(0.5, 1, len(truth)), truth[:, 5]])
    perfect = replace(worse, arrays=arrays, metrics={**worse.metrics, "AP": 1.0})
    row = differences_of(worse, [perfect], 100)[0][0]
    assert row.better == 1
    assert verdict(row, ("a", "b")).startswith(f"b is better by {1 - worse.metrics['AP']:.3f} AP, 95% interval 0.")
    assert verdict(differences_of(perfect, [worse], 100)[0][0], ("b", "a")) == verdict(row, ("a", "b"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Difference("AP", 0.5, 0.512, 0.003, 0.021, 0.99, False),
         "b is better by 0.012 AP, 95% interval 0.003 … 0.021, P = 0.99"),
        (Difference("AP", 0.512, 0.5, -0.021, -0.003, 0.002, False),
         "a is better by 0.012 AP, 95% interval 0.003 … 0.021, P > 0.99"),
        (Difference("ECE", 0.2, 0.1, -0.15, -0.05, 1.0, True),
         "b is better (lower) by 0.100 ECE, 95% interval 0.050 … 0.150, P > 0.99"),
        (Difference("ECE", 0.1, 0.2, 0.05, 0.15, 0.01, True),
         "a is better (lower) by 0.100 ECE, 95% interval 0.050 … 0.150, P = 0.99"),
        (Difference("AP", 0.5, 0.504, -0.01, 0.018, 0.72, False),
         "b and a cannot be told apart: b has +0.004 AP, 95% interval -0.010 … +0.018, P(b is better) = 0.72"),
        (Difference("AP", -1, -1, np.nan, np.nan, np.nan, False),
         "b and a cannot be compared by AP, which was not measured in most draws"),
    ],
)  # fmt: skip
def test_verdicts(row: Difference, said: str) -> None:
    assert verdict(row, ("a", "b")) == said


def test_what_cannot_be_compared_is_refused(label_results: Labels) -> None:
    first = label_results(20)
    fewer = replace(first, arrays={name: array[:19] for name, array in first.arrays.items()})
    renamed = replace(first, labels=LabelMap(ids=(0, 1, 2), names=("x", "y", "z")))
    relabelled = replace(first, arrays={**first.arrays, "truth": first.arrays["truth"][::-1].copy()})
    for other, told in (
        (fewer, r"b: was scored on 19 images and a on 20; 19.png \(1 such\) is not among both"),
        (renamed, "b: its classes are 0=x, 1=y, 2=z; those of a are 0=class 0"),
        (relabelled, "b: the annotations of its images are not those of a"),
        (random_boxes(20), "b: predicts boxes, and a labels"),
        (replace(first, options={"target": "ordinal"}), "b: is scored as {'target': 'ordinal'}"),
    ):
        with pytest.raises(UserError, match=told):
            require_same_images(first, other, ("a", "b"))
    boxes = random_boxes(6)
    moved = boxes.arrays["truth"].copy()
    moved[0, 1] += 1
    with pytest.raises(UserError, match="annotations"):
        require_same_images(boxes, replace(boxes, arrays={**boxes.arrays, "truth": moved}), ("a", "b"))


def test_the_tool_on_two_runs(trained_labels: Path, command, tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "<b>other"
    for run in (first, other):
        shutil.copytree(trained_labels, run)
    start = json.loads((other / "starts.jsonl").read_text().splitlines()[-1])
    start["config"]["optimizer"]["lr"] = 0.123
    (other / "starts.jsonl").write_text(json.dumps(start) + "\n")
    shutil.rmtree(other / "results")
    page = tmp_path / "page.html"
    said = command("compare", first, other, "--out", page, "--draws", "200")
    assert said.code == 0, said.error
    assert "labels: <b>other and first cannot be told apart" in said.out
    assert f"written to {page}" in said.out
    found = check(page.read_text())
    assert "b" not in found.tags
    assert "optimizer.lr" in found.text
    assert "0.123" in found.text
    metrics = json.loads((first / "metrics.jsonl").read_text().splitlines()[-1])["metrics"]
    assert f"<td>{metrics['labels/accuracy']:.3f}</td>" in page.read_text()


def test_mistakes_are_one_line(trained_labels: Path, trained_masks: Path, command, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "page.html")
    assert "1 runs given; expected 2 to 8" in command("compare", trained_labels, *out).complaint
    assert "given twice" in command("compare", trained_labels, trained_labels, *out).complaint
    assert "predicts masks, and labels labels" in command("compare", trained_labels, trained_masks, *out).complaint
    assert "draws is 5" in command("compare", trained_labels, trained_masks, "--draws", "5", *out).complaint
    assert "no run there" in command("compare", trained_labels, tmp_path, *out).complaint


def test_measures_of_weights_of_one_are_the_logged_ones(trained_masks: Path, trained_labels: Path) -> None:
    for run, head in ((trained_masks, "masks"), (trained_labels, "labels")):
        results = ImageResults.load(run / "results" / f"{head}.safetensors")
        again = measure_of(results)(np.ones(len(scored_images(results)), np.int64))
        assert dict(again) == pytest.approx(results.metrics)
