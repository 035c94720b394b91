"""Boxes drawn on images, for people to look at."""

import colorsys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from heads.contract import Detections
from tasks.label_map import LabelMap

Image = npt.NDArray[np.uint8]
SMALLEST_PICTURE = 640  # pixels of the long side, about


def class_colour(index: int) -> tuple[int, int, int]:
    """A colour for a class, RGB; the golden angle keeps neighbours apart however many there are."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + index * 0.381966) % 1.0, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(
    image: Image,
    boxes: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    classes: LabelMap,
    scores: npt.NDArray[np.floating] | None = None,
) -> Image:
    """A copy of `image` with each box outlined in its class's colour, its name and score on it.

    A small image is enlarged by a whole factor first, or its names would hide it.

    Args:
        image: (H, W, 3) RGB.
        boxes: (N, 4), x1 y1 x2 y2 in its pixels.
        labels: (N,), 0 .. K-1.
        classes: names.
        scores: (N,), 0 .. 1, or None for annotations.
    """
    zoom = max(1, round(SMALLEST_PICTURE / max(image.shape[:2])))
    drawn = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=True)
    size = max(drawn.shape[:2])
    line = max(1, round(size / 400))
    scale = max(0.4, size / 1600)
    # Worst first, so that the best detection lies on top.
    for index in reversed(range(len(boxes))):
        label = int(labels[index])
        colour = class_colour(label)
        left, top, right, bottom = (round(zoom * float(value)) for value in boxes[index])
        cv2.rectangle(drawn, (left, top), (right, bottom), colour, line, cv2.LINE_AA)
        text = classes.names[label] + ("" if scores is None else f" {scores[index]:.2f}")
        (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        # Above the box where there is room, else inside it; never beyond the right border.
        x = max(0, min(left, drawn.shape[1] - width - 2))
        y = top - base if top - height - base >= 0 else top + height + base
        cv2.rectangle(drawn, (x, y - height - 1), (x + width + 2, y + base), colour, cv2.FILLED)
        dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 140
        ink = (255, 255, 255) if dark else (0, 0, 0)
        cv2.putText(drawn, text, (x + 1, y), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)
    return drawn


def draw_detections(image: Image, found: Detections, classes: LabelMap, threshold: float) -> Image:
    """The image with the detections that score at least `threshold`."""
    kept = (found.scores >= threshold).cpu().numpy()
    # numpy has no bfloat16, which another head may give under autocast.
    boxes, scores = (t.float().cpu().numpy()[kept] for t in (found.boxes, found.scores))
    labels = found.labels.cpu().numpy()[kept]
    return draw_boxes(image, boxes, labels, classes, scores)


def side_by_side(left: Image, right: Image, titles: tuple[str, str]) -> Image:
    """Two pictures of one size beside each other, each with a title above it."""
    height, width = left.shape[:2]
    bar = max(24, height // 24)
    sheet = np.full((height + bar, 2 * width + 4, 3), 255, np.uint8)
    sheet[bar:, :width], sheet[bar:, width + 4 :] = left, right
    for x, title in zip((0, width + 4), titles, strict=True):
        cv2.putText(sheet, title, (x + 4, bar - 6), cv2.FONT_HERSHEY_SIMPLEX, bar / 36, (40, 40, 40), 1, cv2.LINE_AA)
    return sheet


def viewable(image: npt.NDArray[np.generic], low: float, white: float) -> Image:
    """Any stored image as (H, W, 3) uint8 for drawing: its range stretched to 0 .. 255, grey repeated."""
    scaled = np.clip((image.astype(np.float32) - low) * (255.0 / (white - low)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(scaled, 3, axis=2) if scaled.shape[2] < 3 else scaled[:, :, :3])


def save_picture(path: Path, image: Image) -> None:
    """Write an RGB picture as JPEG. Raises OSError when the disk is full, which cv2's own writer keeps to itself."""
    path.write_bytes(cv2.imencode(".jpg", image[:, :, ::-1])[1].tobytes())
