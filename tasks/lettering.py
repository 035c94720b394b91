"""Letters on pictures, in an outline font that has most alphabets; OpenCV's own are strokes, and ASCII alone."""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont


def line_height(size: int) -> int:
    """Pixels from the top of the tallest letters to the bottom of the deepest ones, at `size` pixels."""
    return sum(_font(size).getmetrics())


def width_of(text: str, size: int) -> int:
    """Pixels that a line takes."""
    return round(_font(size).getlength(text))


def write(
    pixels: npt.NDArray[np.uint8], text: str, left: int, top: int, size: int, colour: tuple[int, int, int]
) -> None:
    """Write a line of text; what does not fit is cut off.

    Args:
        pixels: (H, W, 3) RGB, written on.
        text: a line.
        left: column of its first pixel, 0 or more.
        top: row of the top of its tallest letters, 0 or more.
        size: of the letters, in pixels.
        colour: RGB, 0 .. 255.
    """
    place = pixels[top : top + line_height(size), left : left + width_of(text, size) + 1]
    mask = Image.new("L", (place.shape[1], place.shape[0]))
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=_font(size))
    opacity = np.asarray(mask, np.float32)[:, :, None] / 255
    place[:] = np.round((1 - opacity) * place + opacity * np.asarray(colour, np.float32)).astype(np.uint8)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib as mpl  # a training that draws nothing need not wait for it

    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
