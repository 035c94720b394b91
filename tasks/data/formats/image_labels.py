"""Labels of whole images as one array, and in words."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backbones.errors import UserError
from tasks.data.wanted import LabelKind
from tasks.label_map import LabelMap

LISTED = 10  # classes counted one by one in a line for people


def class_labels(source: object, classes: npt.NDArray[np.int64], label_map: LabelMap, labels: LabelKind) -> Tensor:
    """One class an image as `Annotations.image_labels`.

    Args:
        source: what was read, for messages.
        classes: (I,) index of the class, -1 if unknown (not for multi-label targets).
        label_map: classes.
        labels: what the labels mean.

    Raises:
        UserError: the target is a number.
    """
    if labels == "regression":
        raise UserError(
            f"{source}: holds classes, the head's target is 'regression'; expected numbers, such as columns of a CSV "
            "file (data.format=csv): set the head's target to single"
        )
    indices = torch.from_numpy(classes.astype(np.int64))
    if labels == "multi":
        return torch.nn.functional.one_hot(indices, len(label_map)).to(torch.uint8)
    return indices


def describe_content(image_labels: Tensor | None, masks: bool, label_map: LabelMap) -> str | None:
    """What images bring besides boxes, in words; None: nothing."""
    classes = f"masks of {len(label_map)} class{'es' * (len(label_map) > 1)} ({label_map})"
    parts = [describe_labels(image_labels, label_map)] if image_labels is not None else []
    return ", ".join([*parts, classes] if masks else parts) or None


def describe_labels(image_labels: Tensor, label_map: LabelMap) -> str:
    """How often each class appears, or the range of the numbers: "2 classes (normal 1214, pneumonia 1214)"."""
    own = image_labels.numpy()
    if own.ndim == 1:
        unknown = int((own < 0).sum())
        line = _counted("classes", np.bincount(own[own >= 0], minlength=len(label_map)), label_map)
    elif own.dtype == np.uint8:
        unknown, line = 0, _counted("labels", own.sum(axis=0, dtype=np.int64), label_map)
        none = int((own.max(axis=1, initial=0) == 0).sum())
        line += f", {none} images with none of them" if none else ""
    else:
        known = own[~np.isnan(own).any(axis=1)]
        unknown = len(own) - len(known)
        ranges = [
            f"{name} {column.min():g} to {column.max():g}" if len(column) else name
            for name, column in zip(label_map.names[:LISTED], known.T, strict=False)
        ]
        line = f"{len(label_map)} numbers ({', '.join(ranges)}{', ...' if len(label_map) > LISTED else ''})"
    return line + (f", {unknown} images without a label" if unknown else "")


def _counted(what: str, counts: npt.NDArray[np.int64], label_map: LabelMap) -> str:
    if len(counts) > LISTED:
        return f"{len(counts)} {what} ({counts.min()} to {counts.max()} images each)"
    shown = [f"{name} {count}" for name, count in zip(label_map.names, counts.tolist(), strict=True)]
    return f"{len(counts)} {what} ({', '.join(shown)})"
