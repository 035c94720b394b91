"""What is checked: an experiment and its two splits, and what several checks want to know of them.

Where an experiment has several data sets, each is a subject with the heads that learn from it.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.checking.clock import Clock
from tasks.checking.finding import Place, Side
from tasks.checking.looks import Looks, look_at
from tasks.checking.mask_looks import MaskLook, look_at_masks
from tasks.config import Experiment
from tasks.data.annotations import Annotations
from tasks.data.wanted import Wanted
from tasks.label_map import LabelMap

LOOKING, READING_MASKS = 0.25, 0.1  # shares of the time


class Subject:
    """An experiment with its data.

    Args:
        source: name of the data set; empty where there is only one.
        config: the experiment.
        train: its training split.
        val: its validation split.
        wanted: the targets of its heads.
        labels: classes of each head.
        clock: of the whole check.

    Attributes:
        splits: both, by side.
    """

    def __init__(
        self,
        source: str,
        config: Experiment,
        train: Annotations,
        val: Annotations,
        wanted: Wanted,
        labels: Mapping[str, LabelMap],
        clock: Clock,
    ) -> None:
        self.source, self.config, self.wanted, self.labels, self.clock = source, config, wanted, labels, clock
        self.splits: dict[Side, Annotations] = {"train": train, "val": val}

    @property
    def train(self) -> Annotations:
        """The training split."""
        return self.splits["train"]

    @property
    def val(self) -> Annotations:
        """The validation split."""
        return self.splits["val"]

    @property
    def classes(self) -> LabelMap:
        """Of the data."""
        return self.train.label_map

    @cached_property
    def looks(self) -> Looks:
        """A look at a sample of the images of both splits."""
        return look_at(self.splits, self.config.data, self.config.image, self.clock.portion(LOOKING))

    @cached_property
    def masks(self) -> list[MaskLook]:
        """A look at a sample of the masks of both splits; nothing where no head reads masks."""
        if self.wanted.masks is None:
            return []
        sizes = {(look.side, look.index): look.size for look in self.looks.seen}
        return look_at_masks(self.splits, sizes, self.wanted.masks == "each", self.clock.portion(READING_MASKS))

    def name(self, place: Place) -> str:
        """The file of an image, for people: as it is called in the data set."""
        split, root = self.splits[place.side], self.config.data.root
        described = split.describe(place.index)
        folder = root if root is not None and root.is_dir() else split.root
        return described.removeprefix(f"{folder}/")

    def owners(self, side: Side) -> npt.NDArray[np.int64]:
        """(N,) which image each object of a split lies in."""
        split = self.splits[side]
        return np.repeat(np.arange(len(split)), np.diff(split.offsets.numpy()))

    def object_places(self, side: Side, objects: npt.NDArray[Any]) -> list[Place]:
        """Objects (M,) by their numbers as places, those of one image together."""
        split, owners = self.splits[side], self.owners(side)
        by_image: dict[int, list[int]] = {}
        for row in objects.tolist():
            by_image.setdefault(int(owners[row]), []).append(row)
        boxes = split.boxes.numpy()
        return [
            Place(side, image, boxes=tuple((*map(float, boxes[row]),) for row in rows))  # type: ignore[misc]
            for image, rows in by_image.items()
        ]
