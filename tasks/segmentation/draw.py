"""Masks drawn over images, for people to look at."""

import numpy as np
import numpy.typing as npt

from tasks.drawing import Picture, class_colour
from tasks.label_map import LabelMap

GREY = (128, 128, 128)  # what is ignored


def draw_masks(picture: Picture, masks: npt.NDArray[np.uint8], labels: LabelMap, ignored: int | None = None) -> None:
    """Tint each class's area on a picture, outline it, and write the names of the classes in the top left corner.

    Args:
        picture: drawn on.
        masks: (P, H, W) as in `MaskTargets`, in pixels of the original image.
        labels: names.
        ignored: the value of what is ignored, which becomes grey.
    """
    # A plane for each class has 1 inside; with a single plane and class that is the same thing.
    overlapping = len(masks) > 1
    areas = []
    for plane, mask in enumerate(masks):
        for value in np.unique(mask[mask > 0]).tolist():
            label = None if value == ignored else plane if overlapping else value - 1
            areas.append((label, (mask == value).view(np.uint8)))
    legend: dict[str, tuple[int, int, int]] = {}
    for label, area in areas:
        name, colour = ("ignored", GREY) if label is None else (labels.names[label], class_colour(label))
        legend[name] = colour
        picture.tint(area, colour)
    y = 0
    for name, colour in legend.items():
        y += picture.write(name, 0, y, colour)
