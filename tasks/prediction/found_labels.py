"""Labels and numbers that were found of a whole image."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tasks.classification.draw import classes_of, numbers_of, write_lines
from tasks.classification.metrics import PRESENT, decided
from tasks.drawing import Picture
from tasks.label_map import LabelMap
from tasks.prediction.found import Floats, Found, Row

Target = Literal["single", "multi", "ordinal", "regression"]  # `heads.LabelKind`, without what that imports


@dataclass(frozen=True, slots=True, eq=False)
class FoundLabels(Found):
    """What was predicted of one image as a whole.

    Attributes:
        scores: (K,) float32: the probability of each class, or the numbers of a regression.
        target: which of these they are, and how classes follow, as in `heads.ImageLabels`.
    """

    kind: ClassVar[Literal["boxes", "labels", "masks"]] = "labels"
    scores: Floats
    target: Target = "single"

    def rows(self, labels: LabelMap) -> list[Row]:
        """One row: `scores` by class with the `label`, or `labels` of multi-label data; `values` of a regression."""
        scores = self.scores.astype(np.float64)
        if self.target == "regression":
            # float32 has no more than seven digits.
            return [
                {"values": {name: float(f"{v:.7g}") for name, v in zip(labels.names, scores.tolist(), strict=True)}}
            ]
        row: Row = {"scores": {name: round(v, 5) for name, v in zip(labels.names, scores.tolist(), strict=True)}}
        if self.target == "multi":
            row["labels"] = [labels.names[label] for label in np.flatnonzero(scores >= PRESENT).tolist()]
        else:
            row["label"] = labels.names[int(decided(scores[None], self.target)[0])]
        return [row]

    def draw(self, picture: Picture, labels: LabelMap, threshold: float) -> None:
        """Write the classes with their probabilities, most probable first, or the numbers.

        Of `single` and `ordinal` labels the decided class is always shown, and comes first.
        """
        scores = self.scores.astype(np.float64)
        if self.target == "regression":
            write_lines(picture, numbers_of(scores, labels))
            return
        shown = [int(label) for label in np.argsort(-scores, kind="stable") if scores[label] >= threshold]
        if self.target != "multi":
            first = int(decided(scores[None], self.target)[0])
            shown = [first, *(label for label in shown if label != first)]
        write_lines(picture, classes_of(shown, labels, scores))
