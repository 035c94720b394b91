"""Random brightness, contrast and saturation in one pass.

Each of the three is an affine map of colours, and so is any sequence of them. What lies beyond black and white is cut
off once, at the end, not after each.
"""

import cv2
import numpy as np
import numpy.typing as npt

from tasks.data.augmentation.operations import Span
from tasks.data.files.image_file import Pixels

Matrix = npt.NDArray[np.float64]
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
BYTES = Span(0, 255)


def jitter_colour(image: Pixels, strength: float, span: Span, random: np.random.Generator) -> Pixels:
    """An image whose brightness, contrast and saturation are changed, in random order, by factors around 1.

    Args:
        image: (H, W, C) uint8, uint16 or float32; only three channels have a saturation.
        strength: 0 to 1; factors are drawn from 1 - strength / 2 to 1 + strength / 2.
        span: the stored values that are black and white.
        random: decides.
    """
    count = image.shape[2]
    factors, order = random.uniform(1 - strength / 2, 1 + strength / 2, 3), random.permutation(3)
    weights = GREY if count == 3 else np.full(count, 1 / count)
    mean = (image_mean(image) - span.black) / (span.white - span.black)
    matrix, offset = np.eye(count), np.zeros(count)
    for which in order.tolist():
        factor = factors[which]
        if which == 0:  # brightness: towards black
            matrix, offset = factor * matrix, factor * offset
        elif which == 1:  # contrast: towards the mean of the grey image, as it is by now
            grey = float(weights @ (matrix @ mean + offset))
            matrix, offset = factor * matrix, factor * offset + (1 - factor) * grey
        elif count == 3:  # saturation: towards each pixel's own grey
            blend = factor * np.eye(3) + (1 - factor) * np.outer(np.ones(3), GREY)
            matrix, offset = blend @ matrix, blend @ offset
    if image.dtype == np.uint8 and span == BYTES:
        return _map_colours(image, matrix, 255 * offset)
    return span.from_unit(_map_colours(span.to_unit(image), matrix, offset), image.dtype)


def image_mean(image: Pixels) -> npt.NDArray[np.float64]:
    """(C,) of every channel."""
    if image.shape[2] <= 4:
        return np.array(cv2.mean(image)[: image.shape[2]])
    return np.asarray(image.mean(axis=(0, 1), dtype=np.float64))


def _map_colours(image: Pixels, matrix: Matrix, offset: npt.NDArray[np.float64]) -> Pixels:
    """`matrix @ colour + offset`, of the same type; rounded and cut to 0 .. 255 if that is uint8."""
    if image.shape[2] == 3:
        return np.asarray(cv2.transform(image, np.column_stack([matrix, offset])))
    # Without saturation all channels are scaled and shifted alike.
    scale, shift = matrix[0, 0], offset[0]
    if image.dtype == np.uint8:
        table = (np.arange(256) * scale + shift).round().clip(0, 255).astype(np.uint8)
        return np.asarray(table[image])
    return np.asarray(image * np.float32(scale) + np.float32(shift), np.float32)
