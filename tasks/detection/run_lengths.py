"""Masks of detections as COCO's compressed run lengths: small, and exact to the pixel."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from hotcoco import mask as coco_mask

from heads.contract import Detections
from heads.mask_pasting import paste_masks


def run_lengths(found: Detections) -> list[str]:
    """The `counts` of each detection's mask in pixels of the original image, which is never held for more than one."""
    return [coco_mask.encode(mask)["counts"].decode("ascii") for mask in paste_masks(found)]


def joined(counts: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Run lengths as one array of bytes: run lengths of COCO's have no line breaks, so these come after each."""
    return np.frombuffer("".join(f"{own}\n" for own in counts).encode("ascii"), np.uint8)


def split(stored: npt.NDArray[np.uint8]) -> list[str]:
    """The inverse of `joined`."""
    return stored.tobytes().decode("ascii").split("\n")[:-1]
