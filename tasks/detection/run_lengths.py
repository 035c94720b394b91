"""COCO's compressed run lengths of many masks as one array."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def joined(counts: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Run lengths as one array of bytes: run lengths of COCO's have no line breaks, so these come after each."""
    return np.frombuffer("".join(f"{own}\n" for own in counts).encode("ascii"), np.uint8)


def split(stored: npt.NDArray[np.uint8]) -> list[str]:
    """The inverse of `joined`."""
    return stored.tobytes().decode("ascii").split("\n")[:-1]
