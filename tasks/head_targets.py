"""The targets of a batch as one head sees them, where its images come from several data sets."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from heads.contract import IGNORED, BoxTargets, LabelTargets, MaskTargets, Outlines, Reads, Targets


def targets_of_head(targets: Targets, fed: Tensor, reads: Reads, width: int) -> Targets:
    """The same targets with those images annotated that the head learns from.

    What the others bring may be of other classes, and more of them: it is left out.

    Args:
        targets: of a batch.
        fed: (B,) bool, whether the head learns from an image.
        reads: its part of the targets; the other parts are left as they are.
        width: its columns of `LabelTargets.values`, or planes of `MaskTargets.masks`.
    """
    match reads:
        case "boxes" if targets.boxes is not None:
            return replace(targets, boxes=_boxes(targets.boxes, fed))
        case "labels" if targets.labels is not None:
            values = _first(targets.labels.values, width, 0.0)
            return replace(targets, labels=LabelTargets(values, targets.labels.annotated & fed))
        case "masks" if targets.masks is not None:
            masks = _first(targets.masks.masks.movedim(1, -1), width, IGNORED).movedim(-1, 1)
            return replace(targets, masks=MaskTargets(masks, targets.masks.annotated & fed))
    return targets


def _boxes(boxes: BoxTargets, fed: Tensor) -> BoxTargets:
    outlines = boxes.outlines
    return BoxTargets(
        boxes=boxes.boxes,
        labels=torch.where(fed[:, None], boxes.labels, -1),
        crowd=boxes.crowd & fed[:, None],
        annotated=boxes.annotated & fed,
        outlines=None if outlines is None else Outlines(outlines.bits, outlines.known & fed[:, None]),
    )


def _first(values: Tensor, width: int, missing: float) -> Tensor:
    """The first `width` of the last dimension; where there are fewer, `missing`."""
    return F.pad(values[..., :width], (0, max(width - values.shape[-1], 0)), value=missing)
