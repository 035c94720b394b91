"""One look at each mask of a sample: what it holds, or why it cannot be read."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backbones.errors import UserError
from heads.contract import IGNORED
from tasks.checking.clock import Clock
from tasks.checking.finding import Side
from tasks.checking.looks import spread
from tasks.data.annotations import Annotations
from tasks.data.files.mask_values import read_values
from tasks.data.semantic import semantic_masks

MOST = 100  # masks of a split that are looked at
LEAST = 8  # that are, however long it takes


@dataclass(frozen=True, slots=True)
class MaskLook:
    """What one mask is like.

    Attributes:
        side: its split.
        index: of its image in it.
        problem: why it cannot be used; empty if it can.
        classes: that it holds, 0 .. K-1.
        unlisted: share of the pixels, by raw value, that is neither 0, nor ignored, nor the id of a class.
    """

    side: Side
    index: int
    problem: str
    classes: frozenset[int]
    unlisted: Mapping[int, float]


def look_at_masks(
    splits: Mapping[Side, Annotations],
    sizes: Mapping[tuple[Side, int], tuple[int, int]],
    overlapping: bool,
    clock: Clock,
) -> list[MaskLook]:
    """Look at up to `MOST` masks of each split, spread evenly, of images whose (height, width) is known."""
    found = []
    for side, split in splits.items():
        chosen = [index for index in spread(len(split), MOST) if (side, index) in sizes]
        for number, index in enumerate(chosen):
            if number >= LEAST and not clock.left():
                break
            found.append(_look(side, split, index, sizes[side, index], overlapping))
    return found


def _look(side: Side, split: Annotations, index: int, size: tuple[int, int], overlapping: bool) -> MaskLook:
    try:
        planes = semantic_masks(split, index, size, overlapping)
        unlisted = _unlisted(split, index)
    except UserError as error:
        return MaskLook(side, index, str(error), frozenset(), {})
    if planes.shape[2] > 1:
        held = np.flatnonzero((planes == 1).any(axis=(0, 1))).tolist()
    else:
        values = np.flatnonzero(np.bincount(planes.reshape(-1), minlength=256)).tolist()
        held = [value - 1 for value in values if value not in (0, IGNORED)]
    return MaskLook(side, index, "", frozenset(held), unlisted)


def _unlisted(split: Annotations, index: int) -> dict[int, float]:
    files = split.mask_files
    if files is None or files.planes > 1 or not files.names[index]:
        return {}
    if files.values is not None:
        raw = files.values[index].numpy().astype(np.int64)
    else:
        raw = read_values(split.root / files.names[index], split.frame(index), split.slice_axis)
    values, counts = np.unique(raw, return_counts=True)
    known = {0, files.ignored, *split.label_map.ids}
    shares = zip(values.tolist(), (counts / raw.size).tolist(), strict=True)
    return {value: share for value, share in shares if value not in known}
