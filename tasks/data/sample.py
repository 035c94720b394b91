"""One image with its annotations, and many of them padded into a batch.

Shapes: B images, C channels, H W pixels, N boxes.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from heads.contract import ImageSizes, Targets


@dataclass(frozen=True, slots=True)
class SampleKey:
    """What a sampler asks a data set for: which image, in which epoch, and the how many-th time in it from 0. All
    randomness of a sample follows from it.
    """

    index: int
    epoch: int
    repeat: int = 0


@dataclass(slots=True)
class Sample:
    """One image and what is known about it.

    Attributes:
        image: (H, W, C) uint8, uint16 or float32, stored values, RGB order, after resizing and augmentation.
        image_id: the data set's own id.
        file: path of the image, and of those it was joined with, for messages.
        seed: key of this sample's random draws in this epoch.
        original_size: (height, width) before resizing, in the orientation of the annotations.
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of `image`.
        labels: (N,) int64, 0 .. K-1.
        crowd: (N,) bool.
        outlines: (N, H, W) uint8 of 0 and 1, or None when not asked for; of an object without an outline, its box.
        outlined: (N,) bool, whether each has an outline; None when not asked for.
        fed: whether each head that learns, in the order of the config, learns from it; None: all do.
        image_labels: (K,) float32 as a row of `LabelTargets.values`; None when not asked for, empty when unknown.
        masks: (H, W, P) uint8 as in `MaskTargets`, or None when not asked for.
    """

    image: npt.NDArray[np.generic]
    image_id: int
    file: str
    seed: int
    original_size: tuple[int, int]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    outlines: npt.NDArray[np.uint8] | None = None
    image_labels: npt.NDArray[np.float32] | None = None
    masks: npt.NDArray[np.uint8] | None = None
    outlined: npt.NDArray[np.bool_] | None = None
    fed: tuple[bool, ...] | None = None


class Samples(Protocol):
    """Gives samples by their keys."""

    def __getitem__(self, key: SampleKey) -> Sample: ...

    def describe(self, index: int) -> str:
        """Path of an image, for messages."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples padded to one size.

    Attributes:
        images: (B, C, H, W) channels-last in memory, stored values (uint8 for 8-bit images, else float32); zero where
            padded. The model normalises them, on its device.
        sizes: of the images.
        targets: for the heads.
        image_ids: B raw ids.
        files: B paths, for messages.
        fed: (B, heads) bool, whether each head that learns, in the order of the config, learns from an image; None: all
            do. `targets_of_head` makes each one's own targets of it.
    """

    images: Tensor
    sizes: ImageSizes
    targets: Targets
    image_ids: tuple[int, ...]
    files: tuple[str, ...]
    fed: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """The same batch with its tensors on `device`."""
        moved: Batch = _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return moved

    def take(self, index: Tensor) -> "Batch":
        """A batch of some of the images, in the order of `index` (M,) int64, which may name one more than once."""
        taken: Batch = _map_tensors(self, lambda tensor: tensor[index])
        numbers = index.tolist()
        ids, files = ([names[number] for number in numbers] for names in (self.image_ids, self.files))
        return replace(taken, image_ids=tuple(ids), files=tuple(files))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, from which copies to CUDA do not block; the loader calls it."""
        pinned: Batch = _map_tensors(self, lambda tensor: tensor.pin_memory())
        return pinned


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with `change` applied to every tensor in it and in the dataclasses it is made of."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _map_tensors(getattr(value, f.name), change) for f in fields(value)})
    return value
