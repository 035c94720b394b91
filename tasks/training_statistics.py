"""Options of heads that follow from the training data: weights of classes, mean and spread of regressed numbers."""

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from heads.contract import IGNORED
from tasks.classification.value_scale import set_value_scale
from tasks.config import Experiment, SegmentationConfig
from tasks.data.annotations import Annotations
from tasks.data.semantic import semantic_masks

MASKS_COUNTED = 500  # images whose pixels are counted; spread evenly over the split

Floats = npt.NDArray[np.float64]


def fill_from_data(config: Experiment, annotations: Annotations) -> None:
    """Put numbers, counted in the training split, in the place of what the heads of `config` leave open.

    Class weights that are "balanced" become the inverse of each class's share, scaled so that their mean over all
    annotated images (or pixels) is 1 and the loss keeps its size; for classes that may overlap, how often each is
    absent for every time it is there. Regressed numbers get the mean and the standard deviation that they are scaled
    by. The numbers stay in the config, so that a checkpoint says what it was trained with.

    Raises:
        UserError: a class never appears, so that it has no weight.
    """
    for name, head in config.heads.items():
        if getattr(head, "class_weights", None) == "balanced":
            if isinstance(head, SegmentationConfig):
                counts, total = _count_pixels(annotations, config, head)
            else:
                counts, total = _count_labels(annotations)
            _require_all(counts, f"heads.{name}.class_weights", annotations)
            # A class of its own is weighed against its absence, one of several against the others.
            alone = getattr(head, "target", None) in ("binary", "multilabel", "multi")
            weights = (total - counts) / counts if alone else total / (len(counts) * counts)
            head.class_weights = tuple(round(weight, 6) for weight in weights.tolist())  # type: ignore[union-attr]
    set_value_scale(config, annotations)


def _require_all(counts: Floats, field: str, annotations: Annotations) -> None:
    if not counts.all():
        names = annotations.label_map.names
        missing = ["background", *names][len(names) + 1 - len(counts) :][int(np.argmin(counts))]
        raise UserError(
            f"{field} is balanced, but nothing of {missing!r} is in the training data; give numbers, or take the "
            "class out"
        )


def _count_labels(annotations: Annotations) -> tuple[Floats, float]:
    """Images of each class, and of all together."""
    labels = annotations.image_labels
    assert labels is not None  # the task has asked for them
    own = labels.numpy()
    if own.ndim == 1:
        counts = np.bincount(own[own >= 0], minlength=len(annotations.label_map)).astype(np.float64)
        return counts, float(counts.sum())
    return np.asarray(own.sum(axis=0), np.float64), float(len(own))


def _count_pixels(annotations: Annotations, config: Experiment, head: SegmentationConfig) -> tuple[Floats, float]:
    """Pixels of each channel of the head, the background first where there is one, and of all together."""
    overlapping, classes = head.target == "multilabel", len(annotations.label_map)
    counts, total = np.zeros(classes + 1), 0
    chosen = np.linspace(0, len(annotations) - 1, min(len(annotations), MASKS_COUNTED)).round().astype(int)
    for index in chosen.tolist():
        size = annotations.size(index) or annotations.image(index, config.image, config.data.exif).shape[:2]
        masks = semantic_masks(annotations, index, size, overlapping)
        total += int((masks != IGNORED).any(axis=2).sum())
        if overlapping:
            counts[1:] += (masks == 1).sum(axis=(0, 1))
        else:
            counts += np.bincount(masks.reshape(-1), minlength=256)[: classes + 1]
    if head.target == "multiclass" and head.background:
        return counts, float(total)
    return counts[1:], float(total if head.target != "multiclass" else counts[1:].sum())
