"""Boxes and outlines drawn on images, for people to look at."""

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from tasks.drawing import Picture, class_colour
from tasks.label_map import LabelMap

CROWD = 12  # more boxes than this are many


def draw_boxes(
    picture: Picture,
    boxes: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    classes: LabelMap,
    scores: npt.NDArray[np.floating] | None = None,
) -> None:
    """Outline each box on a picture in its class's colour and write its name and score on it.

    Among many boxes those whose names would take more than half their width have none, which would hide the image.

    Args:
        picture: drawn on.
        boxes: (N, 4), x1 y1 x2 y2 in pixels of the original image.
        labels: (N,), 0 .. K-1.
        classes: names.
        scores: (N,), 0 .. 1, or None for annotations.
    """
    crowded = len(boxes) > CROWD
    line = max(1, round(max(picture.pixels.shape[:2]) / 400))
    # Worst first, so that the best detection lies on top.
    for index in reversed(range(len(boxes))):
        label = int(labels[index])
        colour = class_colour(label)
        left, top, right, bottom = (round(picture.zoom * float(value)) for value in boxes[index])
        cv2.rectangle(picture.pixels, (left, top), (right, bottom), colour, line, cv2.LINE_AA)
        text = classes.names[label] + ("" if scores is None else f" {scores[index]:.2f}")
        if crowded and right - left < 2 * picture.width_of(text):
            continue
        # Above the box where there is room, else inside it.
        picture.write(text, left, top - picture.bar if top >= picture.bar else top, colour)


def draw_outlines(picture: Picture, masks: Iterable[npt.NDArray[np.uint8]], labels: npt.NDArray[np.integer]) -> None:
    """Tint each object's area on a picture in its class's colour, and outline it, so that neighbours stay apart.

    Args:
        picture: drawn on.
        masks: (H, W) uint8 of 0 and 1 of each object, in pixels of the original image.
        labels: (N,), 0 .. K-1.
    """
    for mask, label in zip(masks, labels.tolist(), strict=True):
        picture.tint(mask, class_colour(label))
