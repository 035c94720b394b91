"""Options of heads that follow from the training data: weights of classes, mean and spread of regressed numbers."""

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.config import ClassificationConfig, Experiment, SegmentationConfig
from tasks.data.annotations import Annotations
from tasks.data.semantic import semantic_masks

MASKS_COUNTED = 500  # images whose pixels are counted; spread evenly over the split

Floats = npt.NDArray[np.float64]


def fill_from_data(config: Experiment, annotations: Annotations) -> None:
    """Put numbers, counted in the training split, in the place of what the heads of `config` leave open.

    Class weights that are "balanced" become the inverse of each class's share, scaled so that their mean over all
    annotated images (or pixels) is 1 and the loss keeps its size. Regressed numbers get the mean and the standard
    deviation that they are scaled by. The numbers stay in the config, so that a checkpoint says what it was trained with.

    Raises:
        UserError: a class never appears, so that it has no weight.
    """
    for name, head in config.heads.items():
        if getattr(head, "class_weights", None) == "balanced":
            if isinstance(head, SegmentationConfig):
                counts = _count_pixels(annotations, config, head)
            else:
                counts = _count_labels(annotations)
            weights = _inverse_shares(counts, f"heads.{name}.class_weights", annotations)
            head.class_weights = tuple(round(weight, 6) for weight in weights.tolist())  # type: ignore[union-attr]
        if isinstance(head, ClassificationConfig) and head.target == "regression" and head.value_mean is None:
            labels = annotations.image_labels
            assert labels is not None  # the task has asked for them
            values = labels.double().numpy()
            head.value_mean = tuple(np.nanmean(values, axis=0).tolist())
            spread = np.nanstd(values, axis=0)
            head.value_std = tuple(np.where(spread > 0, spread, 1.0).tolist())


def _inverse_shares(counts: Floats, field: str, annotations: Annotations) -> Floats:
    if not counts.all():
        names = annotations.label_map.names
        missing = ["background", *names][len(names) + 1 - len(counts) :][int(np.argmin(counts))]
        raise UserError(
            f"{field} is balanced, but nothing of {missing!r} is in the training data; give numbers, or take the "
            "class out"
        )
    weights: Floats = counts.sum() / (len(counts) * counts)
    return weights


def _count_labels(annotations: Annotations) -> Floats:
    labels = annotations.image_labels
    assert labels is not None  # the task has asked for them
    own = labels.numpy()
    if own.ndim == 1:
        return np.bincount(own[own >= 0], minlength=len(annotations.label_map)).astype(np.float64)
    return np.asarray(own.sum(axis=0), np.float64)


def _count_pixels(annotations: Annotations, config: Experiment, head: SegmentationConfig) -> Floats:
    """Pixels of each channel of the head: the background first, where there is one."""
    overlapping, classes = head.target == "multilabel", len(annotations.label_map)
    counts = np.zeros(classes + 1)
    chosen = np.linspace(0, len(annotations) - 1, min(len(annotations), MASKS_COUNTED)).round().astype(int)
    for index in chosen.tolist():
        size = annotations.size(index) or annotations.image(index, config.image, config.data.exif).shape[:2]
        masks = semantic_masks(annotations, index, size, overlapping)
        if overlapping:
            counts[1:] += (masks == 1).sum(axis=(0, 1))
        else:
            counts += np.bincount(masks.reshape(-1), minlength=256)[: classes + 1]
    return counts if head.target == "multiclass" and head.background else counts[1:]
