"""By how much a JPEG can be reduced while it is decoded, where only a smaller image is needed.

A JPEG stores blocks of 8 x 8 pixels as frequencies. A decoder that leaves out the higher ones gets blocks of 4 x 4, 2 x
2 or one pixel, nearly the averages of the whole ones, in a part of the time (libjpeg's `scale_denom`).
"""

from collections.abc import Callable

Size = tuple[int, int]  # height and width
Needed = Callable[[Size], Size | None]
"""Of the size of an image, upright as its annotations see it, the size that it will be resized to; None: whole."""
FACTORS = (8, 4, 2)
MISPLACED = 0.5  # pixels of the resized image, at most


def reduction(size: Size, needed: Size | None) -> int:
    """1, 2, 4 or 8: the largest factor by which an image of `size` can be reduced and is still as large as `needed`.

    Blocks at the right and bottom edges reach over the image, so that a reduced image covers up to factor - 1 pixels
    more. Where that would move anything by more than half a pixel of the resized image, the factor is smaller.
    """
    if needed is None:
        return 1
    for factor in FACTORS:
        large_enough = all(own // factor >= wanted for own, wanted in zip(size, needed, strict=True))
        over = (-own % factor * wanted / own for own, wanted in zip(size, needed, strict=True))
        if large_enough and max(over) <= MISPLACED:
            return factor
    return 1
