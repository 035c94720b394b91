"""A split whose masks lie in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.data.annotations import Annotations
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.label_map import LabelMap


@dataclass
class Drawn:
    """Stands for `MaskFiles`: (I, H, W, P) masks."""

    masks: np.ndarray

    @property
    def planes(self) -> int:
        return int(self.masks.shape[3])

    def read(self, index: int, *_: Any) -> np.ndarray:
        return np.asarray(self.masks[index])


@pytest.fixture
def split_of() -> Callable[..., Annotations]:
    """`split_of(masks, names, ids)`: images with these masks, each (H, W), or (P, H, W) of overlapping classes."""

    def build(masks: Sequence[Any], names: tuple[str, ...], ids: tuple[int, ...] | None = None) -> Annotations:
        stacked = np.asarray(masks, np.uint8)
        stacked = stacked[..., None] if stacked.ndim == 3 else stacked.transpose(0, 2, 3, 1)
        count, height, width, _ = stacked.shape
        return pack_images(
            split="val",
            root=Path("folder"),
            label_map=LabelMap(ids=ids or tuple(range(1, len(names) + 1)), names=names),
            report=ReadReport("memory"),
            names=[f"{index}.png" for index in range(count)],
            mask_files=Drawn(stacked),
            pixels=torch.zeros(count, height, width, 1, dtype=torch.uint8),
        )

    return build


@pytest.fixture
def square() -> np.ndarray:
    """(20, 30) with a square of class 1 of 6 x 6 pixels."""
    mask = np.zeros((20, 30), np.uint8)
    mask[4:10, 5:11] = 1
    return mask
