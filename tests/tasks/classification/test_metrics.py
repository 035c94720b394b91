"""Our numbers against scikit-learn's on random cases with ties, missing classes and few images."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import calibration, metrics

from tasks.classification.metrics import (
    Calibration,
    ClassRates,
    Floats,
    Ints,
    confusion_matrix,
    decided,
    mean_defined,
    quadratic_weighted_kappa,
    ranking,
    regression_metrics,
)

SEEDS = range(12)


def quietly(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """scikit-learn warns of what is not defined; NaN is expected there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


def case(seed: int) -> tuple[Ints, Floats, int]:
    """Classes and probabilities of a few images; of some seeds one class is missing, or many scores are equal."""
    random = np.random.default_rng(seed)
    images, classes = int(random.choice([1, 2, 7, 60])), int(random.choice([2, 3, 9]))
    truth = random.integers(0, max(classes - seed % 2, 1), images)
    scores = random.dirichlet(np.ones(classes), images)
    if seed % 3 == 0:
        scores = np.round(scores * 4) + 1
        scores /= scores.sum(axis=1, keepdims=True)
    return truth, scores, classes


def rates(truth: Ints, predicted: Ints, classes: int) -> ClassRates:
    counts = confusion_matrix(truth, predicted, classes)
    return ClassRates.of(counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0))


@pytest.mark.parametrize("seed", SEEDS)
def test_class_rates(seed: int) -> None:
    truth, scores, classes = case(seed)
    predicted, labels = decided(scores, "single"), range(classes)
    reference = metrics.confusion_matrix(truth, predicted, labels=labels)
    assert np.array_equal(confusion_matrix(truth, predicted, classes), reference)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=labels, zero_division=np.nan
    )
    found = rates(truth, predicted, classes)
    np.testing.assert_allclose(found.precision, precision, equal_nan=True)
    np.testing.assert_allclose(found.recall, recall, equal_nan=True)
    np.testing.assert_allclose(found.f1[support > 0], f1[support > 0])
    assert np.isnan(found.f1[support == 0]).all()
    assert mean_defined(found.recall) == pytest.approx(quietly(metrics.balanced_accuracy_score, truth, predicted))
    present = np.flatnonzero(support)
    macro = metrics.f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    assert mean_defined(found.f1) == pytest.approx(macro)


@pytest.mark.parametrize("seed", SEEDS)
def test_quadratic_weighted_kappa(seed: int) -> None:
    truth, scores, classes = case(seed)
    predicted = decided(scores, "ordinal")
    found = quadratic_weighted_kappa(confusion_matrix(truth, predicted, classes))
    expected = quietly(metrics.cohen_kappa_score, truth, predicted, labels=range(classes), weights="quadratic")
    np.testing.assert_allclose(found, expected, equal_nan=True)


def test_kappa_of_agreement_and_its_opposite() -> None:
    ranks = np.array([0, 1, 2, 0])
    assert quadratic_weighted_kappa(confusion_matrix(ranks, ranks, 3)) == 1
    assert quadratic_weighted_kappa(confusion_matrix(np.array([0, 1]), np.array([1, 0]), 2)) == -1
    assert np.isnan(quadratic_weighted_kappa(confusion_matrix(ranks[:0], ranks[:0], 3)))


@pytest.mark.parametrize("seed", SEEDS)
def test_ranking(seed: int) -> None:
    truth, scores, classes = case(seed)
    for label in range(classes):
        own = truth == label
        area, precision = ranking(own, scores[:, label])
        if own.any() and not own.all():
            assert area == pytest.approx(metrics.roc_auc_score(own, scores[:, label]), abs=1e-12)
        else:
            assert np.isnan(area)
        if own.any():
            expected = metrics.average_precision_score(own, scores[:, label])
            assert precision == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(precision)


def test_ranking_of_equal_scores_and_of_nothing() -> None:
    assert ranking(np.array([True, False, True, False]), np.full(4, 0.3)) == (0.5, 0.5)
    assert np.isnan(ranking(np.zeros(0, bool), np.zeros(0))).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_calibration(seed: int) -> None:
    random = np.random.default_rng(seed)
    confidence = random.random(int(random.choice([1, 5, 300])))
    true = random.random(len(confidence)) < confidence**2
    found = Calibration.of(confidence, true)
    frequency, mean = quietly(calibration.calibration_curve, true, confidence, n_bins=15)
    filled = found.counts > 0
    np.testing.assert_allclose(found.frequency[filled], frequency)
    np.testing.assert_allclose(found.confidence[filled], mean)
    assert found.counts.sum() == len(confidence)
    assert found.error == pytest.approx((found.counts[filled] * np.abs(mean - frequency)).sum() / len(confidence))


def test_calibration_by_hand() -> None:
    # Certain and right half of the time: off by a half.
    assert Calibration.of(np.ones(4), np.array([True, False, True, False])).error == 0.5
    # Two bins, off by 0.1 and 0.4.
    assert Calibration.of(np.array([0.9, 0.4]), np.array([True, False])).error == pytest.approx(0.25)
    assert np.isnan(Calibration.of(np.zeros(0), np.zeros(0, bool)).error)


@pytest.mark.parametrize("seed", SEEDS)
def test_regression(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.normal(100, 20, int(random.choice([2, 3, 50])))
    predicted = truth + random.normal(0, 30, len(truth))
    found = regression_metrics(truth, predicted)
    assert found == pytest.approx(
        {
            "MAE": metrics.mean_absolute_error(truth, predicted),
            "RMSE": metrics.root_mean_squared_error(truth, predicted),
            "R2": metrics.r2_score(truth, predicted),
            "Pearson": np.corrcoef(truth, predicted)[0, 1],
        }
    )


def test_regression_of_numbers_that_are_alike() -> None:
    alike, other = np.full(3, 0.1), np.array([0.1, 0.2, 0.3])
    found = regression_metrics(alike, other)
    assert (found["MAE"], np.isnan(found["R2"]), np.isnan(found["Pearson"])) == (pytest.approx(0.1), True, True)
    found = regression_metrics(other, alike)
    assert found["R2"] == pytest.approx(metrics.r2_score(other, alike))
    assert np.isnan(found["Pearson"])
    assert np.isnan(regression_metrics(alike[:1], other[:1])["R2"])
    assert np.isnan(list(regression_metrics(alike[:0], other[:0]).values())).all()


def test_decided() -> None:
    scores = np.array([[0.4, 0.3, 0.3], [0.45, 0.1, 0.45], [0.6, 0.4, 0.0], [0.1, 0.2, 0.7]])
    assert decided(scores, "single").tolist() == [0, 0, 0, 2]
    assert decided(scores, "ordinal").tolist() == [1, 1, 0, 2]
