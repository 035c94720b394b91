"""Turning, shearing and moving an annotated image by any amount, with or without an elastic deformation: one warp.

Coordinates are continuous: pixel (row i, column j) covers j .. j + 1 and i .. i + 1, as boxes see it. A matrix is 3 x 3
and takes (x, y, 1) of the image before to the image after.
"""

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from heads.contract import IGNORED
from tasks.data.augmentation.geometry import Annotated, Boxes, Fill, boxes_of, drop_lost, with_channels

Matrix = npt.NDArray[np.float64]
Displacement = npt.NDArray[np.float32]
_HALF = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # from the indices of pixels to their centres
_HALF_BACK = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])


def scaling(frame: tuple[int, int, int, int], size: tuple[int, int]) -> Matrix:
    """The matrix that brings the rectangle `frame` (top, left, height, width) to an image of `size` (height, width)."""
    top, left, height, width = frame
    x, y = size[1] / width, size[0] / height
    return np.array([[x, 0, -x * left], [0, y, -y * top], [0, 0, 1]])


def shift(x: float, y: float) -> Matrix:
    """Move to the right and down."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def shear(x: float, y: float) -> Matrix:
    """Move to the right by `x` a row and down by `y` a column, about the top left corner."""
    return np.array([[1, x, 0], [y, 1, 0], [0, 0, 1.0]])


def rotation(degrees: float) -> Matrix:
    """Turn against the clock about the top left corner."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])


def about_centre(matrix: Matrix, size: tuple[int, int]) -> Matrix:
    """What `matrix` does about the corner, done about the middle of an image of `size` (height, width)."""
    y, x = size[0] / 2, size[1] / 2
    return shift(x, y) @ matrix @ shift(-x, -y)


def random_displacement(size: tuple[int, int], strength: float, random: np.random.Generator) -> Displacement:
    """(H, W, 2) float32 smooth shifts to the right and down in pixels.

    Normal numbers at 3 x 3 points with bicubic interpolation between them (Ronneberger et al. 2015, U-Net, section
    3.1).

    Args:
        size: height and width.
        strength: standard deviation as a share of the sides.
        random: where the numbers come from.
    """
    points = random.standard_normal((3, 3, 2)) * strength * np.array(size[::-1])
    return np.asarray(cv2.resize(points.astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def warp(
    item: Annotated, matrix: Matrix, size: tuple[int, int], fill: Fill, displacement: Displacement | None = None
) -> None:
    """Move an image by `matrix` into one of `size`: bilinear; outlines and masks take the nearest pixel.

    What comes from outside is `fill` in the image and `IGNORED` in masks. Boxes become those of the moved outlines;
    without outlines those of the moved corners, which are loose around anything but a rectangle. Objects of which less
    than a pixel is left are dropped.

    Args:
        item: changed in place.
        matrix: 3 x 3.
        size: height and width of the result.
        fill: (C,).
        displacement: (H, W, 2); a pixel p of the result shows what would have come to p + displacement[p].
    """
    move = _mover(matrix, size, displacement)
    # cv2 fills four channels at most.
    parts = [
        move(item.image[:, :, i : i + 4], cv2.INTER_LINEAR, fill[i : i + 4].tolist())
        for i in range(0, item.image.shape[2], 4)
    ]
    item.image = parts[0] if len(parts) == 1 else np.concatenate(parts, 2)
    if item.masks is not None:
        planes = range(0, item.masks.shape[2], 4)
        moved = [move(item.masks[:, :, i : i + 4], cv2.INTER_NEAREST, [IGNORED] * 4) for i in planes]
        item.masks = np.concatenate(moved, 2)
    if item.outlines is None:
        item.boxes = _moved_boxes(item.boxes, matrix, displacement)
    else:
        outlines = [move(outline, cv2.INTER_NEAREST, [0])[:, :, 0] for outline in item.outlines]
        item.outlines = np.stack(outlines) if outlines else np.zeros((0, *size), np.uint8)
        item.boxes = boxes_of(item.outlines)
    drop_lost(item)


def _mover(
    matrix: Matrix, size: tuple[int, int], displacement: Displacement | None
) -> Callable[[npt.NDArray[Any], int, list[float]], npt.NDArray[Any]]:
    """A function of an array (H, W, C), the interpolation and the value outside."""
    of_indices = _HALF_BACK @ matrix @ _HALF
    border = cv2.BORDER_CONSTANT
    if displacement is None:
        forward = of_indices[:2]

        def move(array: npt.NDArray[Any], interpolation: int, outside: list[float]) -> npt.NDArray[Any]:
            moved = cv2.warpAffine(
                array, forward, size[::-1], flags=interpolation, borderMode=border, borderValue=outside
            )
            return with_channels(moved)

        return move
    rows, columns = np.indices(size, np.float32)
    x, y = columns + displacement[:, :, 0], rows + displacement[:, :, 1]
    back = np.linalg.inv(of_indices).astype(np.float32)
    map_x = back[0, 0] * x + back[0, 1] * y + back[0, 2]
    map_y = back[1, 0] * x + back[1, 1] * y + back[1, 2]

    def bend(array: npt.NDArray[Any], interpolation: int, outside: list[float]) -> npt.NDArray[Any]:
        return with_channels(cv2.remap(array, map_x, map_y, interpolation, borderMode=border, borderValue=outside))

    return bend


def _moved_boxes(boxes: Boxes, matrix: Matrix, displacement: Displacement | None) -> Boxes:
    """(N, 4), the boxes around the moved edges."""
    steps = np.linspace(0, 1, 2 if displacement is None else 9)
    x1, y1, x2, y2 = boxes.T[:, :, None]
    across, down = x1 + (x2 - x1) * steps, y1 + (y2 - y1) * steps
    same = np.ones_like(steps)
    x = np.concatenate([across, across, x1 * same, x2 * same], 1)
    y = np.concatenate([y1 * same, y2 * same, down, down], 1)
    moved = np.stack([x, y], 2) @ matrix[:2, :2].T + matrix[:2, 2]
    if displacement is not None and len(boxes):
        # p + displacement[p] = moved, solved by going round: the displacement changes slowly.
        aim = moved
        for _ in range(8):
            x, y = (moved - 0.5).astype(np.float32).transpose(2, 0, 1)
            there = cv2.remap(displacement, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            moved = aim - there
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], 1)
