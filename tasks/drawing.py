"""Pictures for people to look at: any stored image made viewable, colours of classes, sheets."""

import colorsys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tasks.image_spec import ImageSpec
from tasks.lettering import line_height, width_of, write

Image = npt.NDArray[np.uint8]
SMALLEST_PICTURE = 640  # pixels of the long side, about
LETTERS = 1 / 55  # of the long side
SMALLEST_LETTERS = 11  # pixels
OPACITY = 0.4  # of a tinted area


@dataclass(slots=True)
class Picture:
    """An image being drawn on.

    Attributes:
        pixels: (H * zoom, W * zoom, 3) uint8 RGB.
        zoom: a small image is enlarged by this whole factor, or what is written on it would hide it.
        letters: height of letters as a share of the long side; more where the picture will be shown small.
    """

    pixels: Image
    zoom: int
    letters: float = LETTERS

    @classmethod
    def of(cls, image: npt.NDArray[np.generic], spec: ImageSpec, letters: float = LETTERS) -> "Picture":
        """A picture of stored pixels (H, W, C)."""
        shown = viewable(image, spec)
        zoom = max(1, round(SMALLEST_PICTURE / max(shown.shape[:2])))
        pixels = cv2.resize(shown, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        return cls(pixels.astype(np.uint8, copy=True), zoom, letters)

    def copy(self) -> "Picture":
        """A picture to draw on separately."""
        return Picture(self.pixels.copy(), self.zoom, self.letters)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the original image."""
        return self.pixels.shape[0] // self.zoom, self.pixels.shape[1] // self.zoom

    def tint(self, area: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> None:
        """Tint an area, (H, W) of 0 and 1 in pixels of the original image, and outline it."""
        height, width = self.pixels.shape[:2]
        enlarged = cv2.resize(area, (width, height), interpolation=cv2.INTER_NEAREST)
        inside = enlarged > 0
        tinted = (1 - OPACITY) * self.pixels[inside] + OPACITY * np.asarray(colour)
        self.pixels[inside] = tinted.round().astype(np.uint8)
        contours, _ = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(self.pixels, contours, -1, colour, max(1, round(max(height, width) / 500)), cv2.LINE_AA)

    def width_of(self, text: str) -> int:
        """Width of the bar that `write` draws for a text, in pixels."""
        return width_of(text, self._size) + 2 * self._margin

    @property
    def bar(self) -> int:
        """Height of the bar that `write` draws, in pixels."""
        return line_height(self._size)

    def write(self, text: str, x: int, y: int, colour: tuple[int, int, int]) -> int:
        """Write a line of text on a coloured bar with its top left corner near (x, y); returns the bar's height."""
        width, bar = self.width_of(text), self.bar
        x = max(0, min(x, self.pixels.shape[1] - width))
        y = max(0, min(y, self.pixels.shape[0] - bar))
        cv2.rectangle(self.pixels, (x, y), (x + width, y + bar), colour, cv2.FILLED)
        dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 140
        ink = (255, 255, 255) if dark else (0, 0, 0)
        write(self.pixels, text, x + self._margin, y, self._size, ink)
        return bar

    @property
    def _size(self) -> int:
        """Of letters, in pixels."""
        return max(SMALLEST_LETTERS, round(self.letters * float(max(self.pixels.shape[:2]))))

    @property
    def _margin(self) -> int:
        return max(1, self._size // 6)


def class_colour(index: int) -> tuple[int, int, int]:
    """A colour for a class, RGB; the golden angle keeps neighbours apart however many there are."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + index * 0.381966) % 1.0, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def side_by_side(left: Picture, right: Picture, titles: tuple[str, str]) -> Image:
    """Two pictures of one size beside each other, each with a title above it."""
    height, width = left.pixels.shape[:2]
    bar = max(24, height // 24)
    sheet = np.full((height + bar, 2 * width + 4, 3), 255, np.uint8)
    sheet[bar:, :width], sheet[bar:, width + 4 :] = left.pixels, right.pixels
    for x, title in zip((0, width + 4), titles, strict=True):
        size = round(0.6 * bar)
        write(sheet, title, x + 4, (bar - line_height(size)) // 2, size, (40, 40, 40))
    return sheet


def viewable(image: npt.NDArray[np.generic], spec: ImageSpec) -> Image:
    """Stored pixels (H, W, C) as (H, W, 3) uint8: the range of `spec` stretched to 0 .. 255, grey repeated."""
    black, white = spec.black, spec.white
    scaled = np.clip((image.astype(np.float32) - black) * (255.0 / (white - black)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(scaled[:, :, :1], 3, axis=2) if scaled.shape[2] < 3 else scaled[:, :, :3])


def save_picture(path: Path, image: Image) -> None:
    """Write an RGB picture in the format of the file's ending.

    Raises OSError when the disk is full, which cv2's own writer keeps to itself.
    """
    path.write_bytes(cv2.imencode(path.suffix, image[:, :, ::-1])[1].tobytes())
