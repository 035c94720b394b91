"""Boxes in memory."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tasks.data.annotations import Annotations
from tasks.data.packing import pack
from tasks.data.report import ReadReport
from tasks.label_map import LabelMap

Object = tuple[tuple[float, float, float, float], int, bool]


@pytest.fixture
def boxes_of() -> Callable[..., Annotations]:
    """`boxes_of([[(box, label, crowd), ...], ...], labels)`: images with these objects; ids are 10, 11, ..."""

    def build(images: Sequence[Sequence[Object]], labels: LabelMap) -> Annotations:
        objects = [(index, *entry) for index, entries in enumerate(images) for entry in entries]
        boxes = np.array([box for _, box, _, _ in objects], np.float64).reshape(-1, 4)
        return pack(
            split="val",
            root=Path("folder"),
            label_map=labels,
            report=ReadReport("memory"),
            names=[f"{index}.png" for index in range(len(images))],
            image_ids=[10 + index for index in range(len(images))],
            sizes=[(200, 200)] * len(images),
            image_of=np.array([index for index, *_ in objects], np.int64),
            boxes=boxes,
            labels=np.array([label for *_, label, _ in objects], np.int64),
            crowd=np.array([crowd for *_, crowd in objects], np.bool_),
            areas=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        )

    return build
