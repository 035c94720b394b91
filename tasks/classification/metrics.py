"""Numbers that compare labels with predictions; NaN where they are not defined.

Equal to scikit-learn's functions of the same names, as tests show. Shapes: N images, K classes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from heads.contract import LabelKind

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BINS = 15  # of the calibration error, as in Guo et al.
PRESENT = 0.5  # probability from which on a class of multi-label data counts as predicted


def decided(scores: Floats, target: "LabelKind") -> Ints:
    """(N,) the class that probabilities (N, K) stand for: the most probable one, the first of equals.

    For `ordinal`, the median: the number of ranks that the image is above with more than one half, which costs the
    least in distance between ranks (Cao et al., arXiv:1901.07884, section 3.2).
    """
    if target == "ordinal":
        at_least = scores[:, ::-1].cumsum(axis=1)[:, ::-1]
        return np.asarray((at_least[:, 1:] > 0.5).sum(axis=1), np.int64)
    return np.asarray(scores.argmax(axis=1), np.int64)


def mean_defined(values: npt.ArrayLike) -> float:
    """Mean of the values that are not NaN; NaN if there is none."""
    array = np.asarray(values, np.float64)
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if len(defined) else float("nan")


def confusion_matrix(truth: Ints, predicted: Ints, classes: int) -> Ints:
    """(K, K) number of images of class `row` that are predicted as `column`."""
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True, slots=True)
class ClassRates:
    """How each class is found, (K,) each; NaN for recall and F1 of a class that no image has, and for the precision of
    one that no image is predicted as.
    """

    precision: Floats
    recall: Floats
    f1: Floats

    @classmethod
    def of(cls, hits: Ints, annotated: Ints, predicted: Ints) -> "ClassRates":
        """From (K,) counts of images: predicted rightly, annotated, predicted."""
        with np.errstate(invalid="ignore"):
            f1 = np.where(annotated > 0, 2 * hits / (annotated + predicted), np.nan)
            return cls(hits / predicted, hits / annotated, f1)


def quadratic_weighted_kappa(confusion: Ints) -> float:
    """Agreement beyond chance, -1 .. 1, errors weighted by the squared distance of ranks (Cohen 1968)."""
    ranks, total = np.arange(len(confusion)), confusion.sum()
    distance = (ranks[:, None] - ranks) ** 2
    by_chance = np.outer(confusion.sum(axis=1), confusion.sum(axis=0)) / max(total, 1)
    expected = float((distance * by_chance).sum())
    return 1 - float((distance * confusion).sum()) / expected if expected else float("nan")


def ranking(truth: Bools, scores: Floats) -> tuple[float, float]:
    """Area under the ROC curve and average precision of (N,) scores; images of equal score are taken at once.

    The first is NaN without an image of the class or without one of another, the second without one of the class.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1) if len(scores) else np.zeros(0, np.int64)
    hits = np.cumsum(truth[order])[ends].astype(np.float64)
    misses = ends + 1 - hits
    positives, negatives = (float(count[-1]) if len(ends) else 0.0 for count in (hits, misses))
    if not positives:
        return float("nan"), float("nan")
    gained = np.diff(hits, prepend=0)
    precision = float((gained * hits / (ends + 1)).sum() / positives)
    if not negatives:
        return float("nan"), precision
    # Of each step of the curve, the rectangle below it and half of the part that it rises.
    area = (np.diff(misses, prepend=0) * (hits - gained / 2)).sum() / (positives * negatives)
    return float(area), precision


@dataclass(frozen=True, slots=True)
class Calibration:
    """Predicted probabilities against what happened, in `BINS` bins of equal width (Guo et al., arXiv:1706.04599).

    Attributes:
        counts: (BINS,) predictions in each bin; a value on the border of two belongs to the lower one.
        confidence: (BINS,) their mean probability; NaN in an empty bin.
        frequency: (BINS,) how often they came true; NaN in an empty bin.
    """

    counts: Ints
    confidence: Floats
    frequency: Floats

    @classmethod
    def of(cls, confidence: Floats, true: Bools) -> "Calibration":
        """From (M,) probabilities and whether each prediction came true."""
        bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
        counts = np.bincount(bins, minlength=BINS)
        with np.errstate(invalid="ignore"):
            sums = (np.bincount(bins, weights, minlength=BINS) for weights in (confidence, true))
            return cls(counts, *(total / counts for total in sums))

    @property
    def error(self) -> float:
        """Expected calibration error, 0 .. 1: the mean distance of probability and frequency; NaN of nothing."""
        if not self.counts.sum():
            return float("nan")
        return float(np.nansum(self.counts * np.abs(self.confidence - self.frequency)) / self.counts.sum())


def regression_metrics(truth: Floats, predicted: Floats) -> dict[str, float]:
    """MAE, RMSE, R2 (the coefficient of determination) and Pearson's correlation of (N,) numbers.

    R2 and the correlation need numbers that differ.
    """
    names = ("MAE", "RMSE", "R2", "Pearson")
    if not len(truth):
        return dict.fromkeys(names, float("nan"))
    error, own, other = predicted - truth, truth - truth.mean(), predicted - predicted.mean()
    # Exactly alike: the deviations of equal numbers from their rounded mean need not be zero.
    varies, other_varies = np.ptp(truth) > 0, np.ptp(predicted) > 0
    r2 = 1 - (error**2).sum() / (own**2).sum() if varies else np.nan
    pearson = (own * other).sum() / np.sqrt((own**2).sum() * (other**2).sum()) if varies and other_varies else np.nan
    values = (np.abs(error).mean(), np.sqrt((error**2).mean()), r2, pearson)
    return {name: float(value) for name, value in zip(names, values, strict=True)}
