"""Labels written on images, for people to look at."""

import numpy as np
import numpy.typing as npt

from tasks.drawing import Picture, class_colour
from tasks.label_map import LabelMap

GREY = (200, 200, 200)
Line = tuple[str, tuple[int, int, int]]
Scores = npt.NDArray[np.float64]


def classes_of(shown: list[int], labels: LabelMap, scores: Scores | None = None) -> list[Line]:
    """A line for each class, with its score if there are some; or that there is none."""
    tails = {label: "" if scores is None else f" {scores[label]:.2f}" for label in shown}
    return [(labels.names[label] + tail, class_colour(label)) for label, tail in tails.items()] or [("none", GREY)]


def numbers_of(values: Scores, labels: LabelMap) -> list[Line]:
    """A line for each number of a regression."""
    return [
        (f"{name} {value:.4g}", class_colour(k))
        for k, (name, value) in enumerate(zip(labels.names, values.tolist(), strict=True))
    ]


def write_lines(picture: Picture, lines: list[Line]) -> None:
    """Lines below each other from the top left corner; those that no longer fit are counted on the last one."""
    fit = max(1, picture.pixels.shape[0] // (picture.bar + 1))
    if len(lines) > fit:
        lines = [*lines[: fit - 1], (f"and {len(lines) - fit + 1} more", GREY)]
    top = 0
    for text, colour in lines:
        top += picture.write(text, 0, top, colour) + 1
