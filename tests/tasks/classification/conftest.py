"""Splits of nothing but labels."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from tasks.data.annotations import Annotations
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.label_map import LabelMap

Split = Callable[..., Annotations]


@pytest.fixture
def split() -> Split:
    """`split(image_labels, names)`: a split of images with these labels."""

    def make(labels: Tensor | None, names: tuple[str, ...] = ("cat", "dog", "owl")) -> Annotations:
        count = 3 if labels is None else len(labels)
        return pack_images(
            split="val",
            root=Path("data"),
            label_map=LabelMap(ids=tuple(range(len(names))), names=names),
            report=ReadReport("data/labels.csv"),
            names=[f"{index}.png" for index in range(count)],
            image_labels=labels,
        )

    return make
