"""Samples as the model gets them, with the targets of each head drawn on them or told beside them."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from heads.contract import IGNORED
from tasks.config import HeadConfig
from tasks.data.sample import Sample
from tasks.detection.draw import draw_boxes, draw_outlines
from tasks.drawing import Picture
from tasks.image_spec import ImageSpec
from tasks.kinds import reads_outlines, task_of
from tasks.label_map import LabelMap
from tasks.segmentation.draw import draw_masks

MOST_SAID = 4  # labels told of an image
LETTERS = 1 / 26  # of the long side: a picture takes a third or a quarter of a page's width


def draw_sample(
    sample: Sample, heads: Mapping[str, HeadConfig], labels: Mapping[str, LabelMap], spec: ImageSpec
) -> tuple[Picture, str]:
    """The sample with boxes, outlines and masks drawn, and a line that tells its size and what is not drawn.

    Args:
        sample: of a data set.
        heads: those that learn.
        labels: classes of each.
        spec: of the images.
    """
    picture = Picture.of(sample.image, spec, LETTERS)
    said = [f"{sample.image.shape[1]} x {sample.image.shape[0]} px"]
    for name, head in heads.items():
        match task_of(head).reads:
            case "masks":
                if sample.masks is not None:
                    masks = np.ascontiguousarray(sample.masks.transpose(2, 0, 1))
                    draw_masks(picture, masks, labels[name], IGNORED)
            case "boxes":
                if reads_outlines(head) and sample.outlines is not None and sample.outlined is not None:
                    draw_outlines(picture, sample.outlines[sample.outlined], sample.labels[sample.outlined])
                draw_boxes(picture, sample.boxes, sample.labels, labels[name])
                crowds = int(sample.crowd.sum())
                count = len(sample.boxes) - crowds
                boxes = f"{count} box{'es' if count != 1 else ''}"
                if count and len(labels[name]) > 1:
                    boxes = _counted(sample.labels[~sample.crowd], labels[name])
                said.append(boxes + (f", {crowds} crowd regions" if crowds else ""))
            case "labels":
                said.append(_told(sample, labels[name], head.factory_options().get("target") == "regression"))
    return picture, "; ".join(dict.fromkeys(said))


def _counted(labels: npt.NDArray[np.integer], classes: LabelMap) -> str:
    """How many there are of each class, the most frequent first."""
    counts = np.bincount(labels, minlength=len(classes))
    order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
    shown = [f"{counts[k]} {classes.names[k]}" for k in order[:MOST_SAID]]
    return ", ".join(shown) + (f" and {len(order) - MOST_SAID} other classes" if len(order) > MOST_SAID else "")


def _told(sample: Sample, labels: LabelMap, numbers: bool) -> str:
    """Shares or numbers of an image; mixed images have several classes."""
    values = sample.image_labels
    if values is None or not len(values):
        return "not annotated"
    if numbers:
        shown = [f"{name} {own:g}" for name, own in zip(labels.names[:MOST_SAID], values.tolist(), strict=False)]
        return ", ".join(shown) + (f" and {len(values) - MOST_SAID} more" if len(values) > MOST_SAID else "")
    order = [int(k) for k in np.argsort(-values, kind="stable") if values[k]]
    shown = [labels.names[k] + ("" if values[k] == 1 else f" {values[k]:.2f}") for k in order[:MOST_SAID]]
    return ", ".join(shown) + (f" and {len(order) - MOST_SAID} more" if len(order) > MOST_SAID else "") or "none"
