"""Changes of colour and sharpness that the random policies are made of, with the meaning that PIL gave them.

Each takes (H, W, C) uint8, uint16 or float32 and a `Span`, the stored values that are black and white; the result has
the same type, and what would pass black or white becomes it. 8-bit images go through tables of 256 values; deeper ones
are computed in float32, which holds every 16-bit value.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tasks.data.files.image_file import Pixels

Unit = npt.NDArray[np.float32]  # from 0 (black) to 1 (white)
_LEVELS = 65536  # in which the histogram of a deep image is taken
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True, slots=True)
class Span:
    """The stored values that are black and white."""

    black: float
    white: float

    def to_unit(self, values: Pixels) -> Unit:
        """0 for black, 1 for white."""
        return (values.astype(np.float32) - np.float32(self.black)) / np.float32(self.white - self.black)

    def from_unit(self, values: Unit, dtype: npt.DTypeLike) -> Pixels:
        """The opposite, rounded for whole numbers."""
        stored = values.clip(0, 1) * np.float32(self.white - self.black) + np.float32(self.black)
        return (np.round(stored) if np.issubdtype(dtype, np.integer) else stored).astype(dtype)


def brightness(image: Pixels, factor: float, span: Span) -> Pixels:
    """0 gives black, 1 the image."""
    return _by_value(image, span, lambda x: x * factor)


def contrast(image: Pixels, factor: float, span: Span) -> Pixels:
    """0 gives the mean of the grey image, 1 the image."""
    mean = float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean() if image.shape[2] == 3 else image.mean())
    grey = (mean - span.black) / (span.white - span.black)
    return _by_value(image, span, lambda x: x * factor + grey * (1 - factor))


def saturation(image: Pixels, factor: float, span: Span) -> Pixels:
    """0 gives the grey image, 1 the image; nothing changes unless there are three channels."""
    if image.shape[2] != 3:
        return image
    unit = span.to_unit(image)
    return span.from_unit(unit * factor + (unit @ _GREY)[:, :, None] * (1 - factor), image.dtype)


def sharpness(image: Pixels, factor: float, span: Span) -> Pixels:
    """0 gives a smoothed image, 1 the image; the outermost pixels stay as they are."""
    if min(image.shape[:2]) < 3:
        return image
    kernel = np.ones((3, 3), np.float32)
    kernel[1, 1] = 5
    unit = span.to_unit(image)
    inside = np.s_[1:-1, 1:-1]
    smooth = cv2.filter2D(unit, -1, kernel / 13).reshape(image.shape)[inside]
    unit[inside] = unit[inside] * factor + smooth * (1 - factor)
    return span.from_unit(unit, image.dtype)


def posterize(image: Pixels, bits: int) -> Pixels:
    """Keep the highest bits of 8; a deeper image, where so few levels mean nothing, stays as it is."""
    if image.dtype != np.uint8:
        return image
    return image & np.uint8(256 - 2 ** (8 - bits))


def solarize(image: Pixels, threshold: float, span: Span) -> Pixels:
    """Invert what is at least `threshold`, 0 .. 1."""
    return _by_value(image, span, lambda x: np.where(x >= np.float32(threshold), 1 - x, x))


def autocontrast(image: Pixels, span: Span) -> Pixels:
    """Stretch each channel from black to white."""
    return _by_channel(image, lambda channel: _stretched(channel, span))


def equalize(image: Pixels, span: Span) -> Pixels:
    """Give each channel a flat histogram; that of a deeper image is taken in 65,536 levels between black and white."""
    return _by_channel(image, lambda channel: _equalized(channel, span))


def _stretched(channel: Pixels, span: Span) -> Pixels:
    low, high = (float(x) for x in span.to_unit(np.array([channel.min(), channel.max()])))
    if not low < high:
        return channel
    return _by_value(channel, span, lambda x: (x - np.float32(low)) / np.float32(high - low))


def _equalized(channel: Pixels, span: Span) -> Pixels:
    if channel.dtype == np.uint8:
        levels, index = 256, channel
    else:
        levels, index = _LEVELS, np.round(span.to_unit(channel).clip(0, 1) * (_LEVELS - 1)).astype(np.uint16)
    counts = np.bincount(index.reshape(-1), minlength=levels)
    # The brightest level becomes white, each other one the share of darker pixels.
    rest = index.size - counts[np.flatnonzero(counts)[-1]]
    if not rest:
        return channel
    table = ((np.cumsum(counts) - counts) / rest).astype(np.float32)
    return span.from_unit(table[index], channel.dtype)


def _by_value(image: Pixels, span: Span, curve: Callable[[Unit], Unit]) -> Pixels:
    if image.dtype != np.uint8:
        return span.from_unit(curve(span.to_unit(image)), image.dtype)
    table = span.from_unit(curve(span.to_unit(np.arange(256))), np.uint8)
    return np.asarray(cv2.LUT(image, table)).reshape(image.shape)


def _by_channel(image: Pixels, change: Callable[[Pixels], Pixels]) -> Pixels:
    channels = [change(np.ascontiguousarray(image[:, :, i])) for i in range(image.shape[2])]
    return np.stack(channels, 2)
