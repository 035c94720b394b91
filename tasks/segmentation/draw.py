"""Masks drawn over images, for people to look at."""

import cv2
import numpy as np
import numpy.typing as npt

from heads.contract import IGNORED
from tasks.drawing import Picture, class_colour
from tasks.label_map import LabelMap

OPACITY = 0.4  # of a coloured area
GREY = (128, 128, 128)  # what is ignored


def draw_masks(picture: Picture, masks: npt.NDArray[np.uint8], labels: LabelMap) -> None:
    """Tint each class's area on a picture, outline it, and write the names of the classes in the top left corner.

    Args:
        picture: drawn on.
        masks: (P, H, W) as in `MaskTargets`, in pixels of the original image; what is ignored becomes grey.
        labels: names.
    """
    height, width = picture.pixels.shape[:2]
    # A plane for each class has 1 inside; with a single plane and class that is the same thing.
    overlapping = len(masks) > 1
    line = max(1, round(max(height, width) / 500))
    areas = []
    for plane, mask in enumerate(masks):
        for value in np.unique(mask[mask > 0]).tolist():
            label = None if value == IGNORED else plane if overlapping else value - 1
            areas.append((label, (mask == value).view(np.uint8)))
    legend: dict[str, tuple[int, int, int]] = {}
    for label, area in areas:
        name, colour = ("ignored", GREY) if label is None else (labels.names[label], class_colour(label))
        legend[name] = colour
        enlarged = cv2.resize(area, (width, height), interpolation=cv2.INTER_NEAREST)
        inside = enlarged > 0
        tinted = (1 - OPACITY) * picture.pixels[inside] + OPACITY * np.asarray(colour)
        picture.pixels[inside] = tinted.round().astype(np.uint8)
        contours, _ = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture.pixels, contours, -1, colour, line, cv2.LINE_AA)
    y = 0
    for name, colour in legend.items():
        y += picture.write(name, 0, y, colour)
