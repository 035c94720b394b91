"""How often each training image is drawn."""

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.data.annotations import Annotations

Weights = npt.NDArray[np.float64]


def sampling_weights(annotations: Annotations, balance: float) -> Weights | None:
    """(I,) how often to draw each image in comparison, None where all are drawn alike.

    An image counts as much as its rarest class: the largest share(class) ** -balance, where share is the part of the
    images that have the class (as the repeat factor of Gupta et al. 2019, LVIS, appendix B, at balance 0.5). An image
    without a class counts as one with the most frequent class. Weights that the data set itself brings are multiplied
    in.

    Args:
        annotations: the training split.
        balance: 0 .. 1.

    Raises:
        UserError: there is no class to balance, or the weights of the data set cannot be used.
    """
    own = None if annotations.weights is None else annotations.weights.numpy().astype(np.float64)
    if own is not None and not (np.isfinite(own).all() and (own >= 0).all() and own.any()):
        raise UserError(
            f"{annotations.report.source}: the weights of images run from {own.min():g} to {own.max():g}; expected "
            "finite numbers, none below 0 and one above it"
        )
    if not balance:
        return own
    present = _classes(annotations)
    if present is None or not present.any():
        raise UserError(
            f"data.balance is {balance:g}, but {annotations.report.source} names no class of any image; expected "
            "labels or boxes with classes: set it to 0"
        )
    share = present.mean(axis=0)
    factor = np.where(share > 0, np.maximum(share, 1 / len(present)) ** -balance, np.inf)
    weights: Weights = np.where(present, factor, 0).max(axis=1)
    weights[~present.any(axis=1)] = factor.min()
    return weights if own is None else weights * own


def _classes(annotations: Annotations) -> npt.NDArray[np.bool_] | None:
    """(I, K), which classes each image has; None of a regression."""
    images, count = len(annotations), len(annotations.label_map)
    if annotations.own_image_labels is not None:
        labels = annotations.own_image_labels.numpy()
        if labels.ndim == 1:
            return np.asarray(labels[:, None] == np.arange(count))
        return None if np.issubdtype(labels.dtype, np.floating) else labels > 0
    present = np.zeros((images, count), np.bool_)
    owner = np.repeat(np.arange(images), np.diff(annotations.offsets.numpy()))
    present[owner, annotations.labels.numpy()] = True
    return present
