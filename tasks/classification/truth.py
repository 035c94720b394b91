"""Annotated labels of whole images, in the form that their metrics and pictures want."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from heads.contract import LabelKind
from tasks.data.annotations import Annotations


@dataclass(frozen=True, slots=True)
class KnownLabels:
    """The labels of the I images of a split.

    Attributes:
        values: (I,) int64, 0 .. K-1, of single and ordinal; (I, K) bool of multi; (I, K) float64 of regression. What is
            not known is -1 or NaN.
        known: (I,) bool.
    """

    values: npt.NDArray[np.generic]
    known: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, annotations: Annotations, target: LabelKind) -> "KnownLabels":
        """Those of a split.

        Raises:
            UserError: there are none, or they are of another kind.
        """
        require_labels(annotations)
        labels = annotations.image_labels
        assert labels is not None  # or the line above had raised
        own = labels.numpy()
        kind = layout(annotations)
        if kind == "single" and target in ("single", "ordinal"):
            return cls(own, own >= 0)
        if kind == "single" and target == "multi":  # plain classes: exactly one is there
            return cls(own[:, None] == np.arange(len(annotations.label_classes)), own >= 0)
        if kind != target:
            raise UserError(
                f"{annotations.report.source}: its labels are of the kind {kind!r}, but the head's target is "
                f"{target!r}; set the head's target to {kind!r}, or read other labels"
            )
        if kind == "multi":
            return cls(own > 0, np.ones(len(own), np.bool_))
        return cls(own.astype(np.float64), ~np.isnan(own).any(axis=1))


def layout(annotations: Annotations) -> LabelKind | None:
    """What kind of labels a split has, as their array tells; `ordinal` ones are stored as `single`."""
    labels = annotations.image_labels
    if labels is None:
        return None
    if labels.ndim == 1:
        return "single"
    return "regression" if labels.is_floating_point() else "multi"


def require_labels(annotations: Annotations) -> None:
    """Raise `UserError` when no image of the split has a label."""
    labels = annotations.image_labels
    if labels is None:
        known = False
    elif layout(annotations) == "single":
        known = bool((labels >= 0).any())
    else:
        known = bool((~labels.isnan().any(dim=1)).any())
    if not known:
        raise UserError(
            f"{annotations.report.source}: none of its {len(annotations)} images has a label; a classification head "
            "learns from labels of whole images, such as a folder for each class or a CSV file; give it such data, or "
            "choose another head"
        )
