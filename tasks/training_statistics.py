"""Options of heads that follow from the training data: weights of classes, mean and spread of regressed numbers."""

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from heads.contract import IGNORED, LabelKind
from tasks.classification.truth import KnownLabels
from tasks.classification.value_scale import set_value_scale
from tasks.config import Experiment, SegmentationConfig
from tasks.data.annotations import Annotations
from tasks.data.semantic import semantic_masks
from tasks.head_choice import learning_heads
from tasks.label_map import LabelMap

MASKS_COUNTED = 500  # images whose pixels are counted

Floats = npt.NDArray[np.float64]


def fill_from_data(config: Experiment, annotations: Annotations) -> None:
    """Put numbers, counted in the training split, in the place of what the heads of `config` that learn leave open.

    Class weights that are "balanced" become the inverse of each class's share, scaled so that their mean over all
    annotated images (or pixels) is 1 and the loss keeps its size; for classes that may overlap, how often each is
    absent for every time it is there. Regressed numbers get the mean and the standard deviation that they are scaled
    by. The numbers stay in the config, so that a checkpoint says what it was trained with.

    Raises:
        UserError: a class never appears, so that it has no weight, or there are no classes.
    """
    for name in learning_heads(config):
        head = config.heads[name]
        if getattr(head, "class_weights", None) == "balanced":
            field = f"heads.{name}.class_weights"
            if isinstance(head, SegmentationConfig):
                counts, totals = _count_pixels(annotations, config, head)
                classes = annotations.label_map
            else:
                counts, totals = _count_labels(annotations, getattr(head, "target", "single"), field)
                classes = annotations.label_classes
            _require_all(counts, field, classes)
            # A class of its own is weighed against its absence, one of several against the others.
            alone = getattr(head, "target", None) in ("binary", "multilabel", "multi")
            weights = (totals - counts) / counts if alone else totals / (len(counts) * counts)
            head.class_weights = tuple(round(weight, 6) for weight in weights.tolist())  # type: ignore[union-attr]
    set_value_scale(config, annotations)


def _require_all(counts: Floats, field: str, classes: LabelMap) -> None:
    if not counts.all():
        names = classes.names
        missing = ["background", *names][len(names) + 1 - len(counts) :][int(np.argmin(counts))]
        raise UserError(
            f"{field} is balanced, but nothing of {missing!r} is in the training data; give numbers, or take the "
            "class out"
        )


def _count_labels(annotations: Annotations, target: LabelKind, field: str) -> tuple[Floats, Floats]:
    """(K,) images of each class, and (1,) all that are annotated."""
    if target == "regression":
        raise UserError(f"{field} is balanced, but numbers have no classes to balance; leave it out")
    labels = KnownLabels.of(annotations, target)
    own = labels.values[labels.known]
    counts = np.bincount(own, minlength=len(annotations.label_classes)) if own.ndim == 1 else own.sum(axis=0)
    return counts.astype(np.float64), np.array([float(len(own))])


def _count_pixels(annotations: Annotations, config: Experiment, head: SegmentationConfig) -> tuple[Floats, Floats]:
    """Pixels of each channel of the head, the background first where there is one, and of all together: (1,), or of
    each channel where classes overlap, since a pixel may be ignored for one of them.

    Counted in `MASKS_COUNTED` images, and in more as long as a class has not been seen.
    """
    overlapping, classes = head.target == "multilabel", len(annotations.label_map)
    channels = slice(0 if head.target == "multiclass" and head.background else 1, None)
    counts, known = np.zeros((2, classes + 1))
    for number, index in enumerate(_evenly_first(len(annotations), MASKS_COUNTED)):
        if number >= MASKS_COUNTED and counts[channels].all():
            break
        size = annotations.size(index) or annotations.image(index, config.image, config.data.exif).shape[:2]
        masks = semantic_masks(annotations, index, size, overlapping)
        if overlapping:
            counts[1:] += (masks == 1).sum(axis=(0, 1))
            known[1:] += (masks != IGNORED).sum(axis=(0, 1))
        else:
            counts += np.bincount(masks.reshape(-1), minlength=256)[: classes + 1]
    if overlapping:
        return counts[1:], known[1:]
    own = counts[channels]
    return own, (counts if head.target == "binary" else own).sum(keepdims=True)


def _evenly_first(count: int, first: int) -> list[int]:
    """0 .. count - 1, beginning with `first` of them that are spread evenly."""
    chosen = np.linspace(0, count - 1, min(count, first)).round().astype(int)
    return [*chosen.tolist(), *np.setdiff1d(np.arange(count), chosen).tolist()]
