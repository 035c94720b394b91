"""Masks of detections as COCO's compressed run lengths: small, and exact to the pixel."""

from hotcoco import mask as coco_mask

from heads.contract import Detections
from heads.mask_pasting import paste_masks


def run_lengths(found: Detections) -> list[str]:
    """The `counts` of each detection's mask in pixels of the original image, which is never held for more than one."""
    return [coco_mask.encode(mask)["counts"].decode("ascii") for mask in paste_masks(found)]
