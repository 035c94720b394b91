"""Heat maps on images, side by side, for people to look at."""

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import colormaps

from tasks.drawing import Image, Picture
from tasks.lettering import line_height, width_of, write

Heat = npt.NDArray[np.float32]
OPACITY = 0.65  # of the strongest heat
LONGEST_PANEL = 900  # pixels of the long side
INK, PAPER, GAP = (40, 40, 40), 255, 6


def draw_heat(picture: Picture, heat: Heat) -> None:
    """Lay a map (H, W), 0 .. 1, over a picture that turns grey below it; what is cold stays clear."""
    grey = cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2GRAY)[:, :, None]
    height, width = grey.shape[:2]
    enlarged = np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR), np.float32).clip(0, 1)
    opacity = (OPACITY * np.sqrt(enlarged))[:, :, None]
    picture.pixels[:] = np.round((1 - opacity) * grey + opacity * _colours(enlarged)).astype(np.uint8)


def scale(length: int) -> Image:
    """(length, 3) RGB of heat from 0 to 1, as it looks on a middle grey."""
    picture = Picture(np.full((1, length, 3), 128, np.uint8), 1)
    draw_heat(picture, np.linspace(0, 1, length, dtype=np.float32)[None])
    return np.asarray(picture.pixels[0], np.uint8)


def draw_sheet(panels: Sequence[tuple[str, Picture]], caption: str) -> Image:
    """Pictures of one size in rows, each below its title; at the bottom the scale of the colours and a caption."""
    height, width = panels[0][1].pixels.shape[:2]
    shrink = min(1.0, LONGEST_PANEL / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    columns = min(len(panels), 4 if len(panels) % 3 else 3)
    rows = math.ceil(len(panels) / columns)
    bar = max(26, size[1] // 22)
    cell = (size[1] + bar, size[0] + GAP)
    sheet = np.full((rows * cell[0] + 2 * bar, columns * cell[1] - GAP, 3), PAPER, np.uint8)
    for number, (title, picture) in enumerate(panels):
        top, left = number // columns * cell[0], number % columns * cell[1]
        pixels = cv2.resize(picture.pixels, size, interpolation=cv2.INTER_AREA) if shrink < 1 else picture.pixels
        sheet[top + bar : top + cell[0], left : left + size[0]] = pixels
        _write(sheet, title, left + 4, top, bar, size[0] - 8)
    _legend(sheet, caption, rows * cell[0] + bar // 2, bar)
    return sheet


def _legend(sheet: Image, caption: str, top: int, bar: int) -> None:
    """The scale, as it looks on a middle grey, and the caption right of it."""
    length = min(sheet.shape[1] // 3, 12 * bar)
    left = bar + 4
    sheet[top + bar // 4 : top + bar // 4 + bar // 2, left : left + length] = scale(length)
    _write(sheet, "0", 4, top, bar, bar)
    _write(sheet, f"1   {caption}", left + length + 6, top, bar, sheet.shape[1] - left - length - 10)


def _write(sheet: Image, text: str, left: int, top: int, bar: int, room: int) -> None:
    """A line in a bar, smaller where there is no room for it."""
    size = round(0.55 * bar)
    size = max(1, int(size * min(1.0, room / max(width_of(text, size), 1))))
    write(sheet, text, left, top + (bar - line_height(size)) // 2, size, INK)


def _colours(heat: Heat) -> npt.NDArray[np.float32]:
    return _table()[np.round(heat * 255).astype(np.intp)]


@cache
def _table() -> npt.NDArray[np.float32]:
    """(256, 3) RGB: equal steps of heat look like equal steps of colour, in grey print too."""
    return np.asarray(colormaps["inferno"](np.linspace(0, 1, 256))[:, :3] * 255, np.float32)
