"""The numbers that labels of whole images are scored by: classes, several at once, in order, and numbers."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from heads.contract import LabelKind
from tasks.classification.metrics import (
    PRESENT,
    Bools,
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
from tasks.label_map import LabelMap

# The first few are the headline.
OVERALL: dict[LabelKind, tuple[str, ...]] = {
    "single": ("balanced_accuracy", "accuracy", "AUROC", "AP", "F1", "ECE"),
    "multi": ("mAP", "AUROC", "F1", "F1_micro", "exact_match", "ECE"),
    "ordinal": ("QWK", "MAE", "accuracy", "balanced_accuracy", "F1"),
    "regression": ("R2", "MAE", "RMSE", "Pearson"),
}
BY_CLASS: dict[LabelKind, tuple[str, ...]] = {
    "single": ("precision", "recall", "F1"),
    "multi": ("AP", "AUROC", "F1"),
    "ordinal": ("precision", "recall", "F1"),
    "regression": OVERALL["regression"],
}
LOWER = ("ECE", "MAE", "RMSE")
TOP = 5


class LabelMeasures:
    """Compares labels with predictions.

    Args:
        labels: classes.
        target: kind of label.

    Attributes:
        confusion: (K, K) of the last call, of single and ordinal labels.
        calibration: of the last call, of single and multi labels.
        numbers: annotated and predicted ones (N, K) of the last call, of regression.
        notes: which classes were left out in the last call.
    """

    def __init__(self, labels: LabelMap, target: LabelKind) -> None:
        self.labels, self.target = labels, target
        self.reset()

    def reset(self) -> None:
        """Forget the last call."""
        self.notes: list[str] = []
        self.confusion: Ints | None = None
        self.calibration: Calibration | None = None
        self.numbers: tuple[Floats, Floats] | None = None

    def names(self) -> list[str]:
        """Those of `OVERALL` and `BY_CLASS`, with "top5" where there are more classes than that."""
        top = [f"top{TOP}"] if self.target == "single" and len(self.labels) > TOP else []
        # A single number's own metrics are the overall ones.
        shown = () if self.target == "regression" and len(self.labels) == 1 else BY_CLASS[self.target]
        return [*OVERALL[self.target], *top, *(f"{metric}/{name}" for metric in shown for name in self.labels.names)]

    def __call__(self, truth: npt.NDArray[Any], scores: Floats) -> dict[str, float]:
        """All of `names`, of labels as in `KnownLabels.values` and scores (N, K); -1 where one is not defined."""
        self.reset()
        measure: dict[LabelKind, Callable[..., dict[str, float]]] = {
            "single": self._single,
            "multi": self._multi,
            "ordinal": self._ordinal,
            "regression": self._regression,
        }
        found = measure[self.target](truth, scores)
        return {name: -1.0 if np.isnan(found[name]) else found[name] for name in self.names()}

    def _single(self, truth: Ints, scores: Floats) -> dict[str, float]:
        predicted = decided(scores, self.target)
        self.calibration = Calibration.of(scores.max(axis=1, initial=0), predicted == truth)
        own = truth[:, None] == np.arange(len(self.labels))
        areas, precisions = self._rankings(own, scores)
        ranked = slice(1, 2) if len(self.labels) == 2 else slice(None)
        given = np.take_along_axis(scores, truth[:, None], axis=1)
        # Of equal scores the first class comes first, as in `decided`.
        ahead = (scores > given) | ((scores == given) & (np.arange(len(self.labels)) < truth[:, None]))
        return {
            **self._decisions(truth, predicted),
            "AUROC": mean_defined(areas[ranked]),
            "AP": mean_defined(precisions[ranked]),
            "ECE": self.calibration.error,
            f"top{TOP}": mean_defined(ahead.sum(axis=1) < TOP),
        }

    def _ordinal(self, truth: Ints, scores: Floats) -> dict[str, float]:
        predicted = decided(scores, self.target)
        decisions = self._decisions(truth, predicted)
        return {
            **decisions,
            "QWK": quadratic_weighted_kappa(cast(Ints, self.confusion)),
            "MAE": mean_defined(np.abs(predicted - truth)),
        }

    def _multi(self, truth: Bools, scores: Floats) -> dict[str, float]:
        predicted = scores >= PRESENT
        areas, precisions = self._rankings(truth, scores)
        hits, annotated, found = (rows.sum(axis=0) for rows in (truth & predicted, truth, predicted))
        self._note_missing(annotated)
        self.calibration = Calibration.of(scores.reshape(-1), truth.reshape(-1))
        rates = ClassRates.of(hits, annotated, found)
        whole = ClassRates.of(*(np.asarray([counts.sum()]) for counts in (hits, annotated, found)))
        return {
            "mAP": mean_defined(precisions),
            "AUROC": mean_defined(areas),
            "F1": mean_defined(rates.f1),
            "F1_micro": float(whole.f1[0]),
            "exact_match": mean_defined((truth == predicted).all(axis=1)),
            "ECE": self.calibration.error,
            **self._by_class("AP", precisions),
            **self._by_class("AUROC", areas),
            **self._by_class("F1", rates.f1),
        }

    def _regression(self, truth: Floats, predicted: Floats) -> dict[str, float]:
        self.numbers = truth, predicted
        each = [regression_metrics(truth[:, k], predicted[:, k]) for k in range(len(self.labels))]
        alike = [name for name, values in zip(self.labels.names, each, strict=True) if np.isnan(values["R2"])]
        if alike:
            self.notes.append(
                f"R2 and Pearson cannot be measured where all annotated numbers are alike: {_some(alike)}"
            )
        found: dict[str, float] = {}
        for metric in OVERALL["regression"]:
            values = np.asarray([own[metric] for own in each])
            found |= {metric: mean_defined(values), **self._by_class(metric, values)}
        return found

    def _decisions(self, truth: Ints, predicted: Ints) -> dict[str, float]:
        """What follows from the decided classes alone."""
        self.confusion = confusion_matrix(truth, predicted, len(self.labels))
        hits, annotated, found = self.confusion.diagonal(), self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        self._note_missing(annotated)
        rates = ClassRates.of(hits, annotated, found)
        return {
            "accuracy": mean_defined(truth == predicted),
            "balanced_accuracy": mean_defined(rates.recall),
            "F1": mean_defined(rates.f1),
            **self._by_class("precision", rates.precision),
            **self._by_class("recall", rates.recall),
            **self._by_class("F1", rates.f1),
        }

    def _rankings(self, truth: Bools, scores: Floats) -> tuple[Floats, Floats]:
        """(K,) AUROC and (K,) average precision of each class against the rest."""
        columns = zip(np.ascontiguousarray(truth.T), np.ascontiguousarray(scores.T), strict=True)  # quicker to sort
        pairs = [ranking(own, score) for own, score in columns]
        areas, precisions = np.asarray(pairs).T
        return areas, precisions

    def _by_class(self, metric: str, values: Floats) -> dict[str, float]:
        return {f"{metric}/{name}": float(value) for name, value in zip(self.labels.names, values, strict=True)}

    def _note_missing(self, annotated: Ints) -> None:
        missing = [name for name, count in zip(self.labels.names, annotated, strict=True) if not count]
        if missing:
            self.notes.append(f"left out of the means, because no image has it: {_some(missing)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
