"""What every head promises, and what it is given: image sizes, targets, predictions.

Shapes: B images, C channels, H W pixels, N boxes, K classes, A anchors.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from backbones.contract import FeatureSpec
from backbones.errors import UserError
from backbones.registry import Registry


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """Sizes of the images of one padded batch, in pixels, as (height, width).

    Attributes:
        padded: H, W of the batch tensor.
        valid: (B, 2) int64, the part of it, from the top left corner, that holds each image.
        original: (B, 2) int64, each image before it was resized; predictions are returned in these pixels.
    """

    padded: tuple[int, int]
    valid: Tensor
    original: Tensor

    def __len__(self) -> int:
        return len(self.valid)

    def to(self, device: torch.device, non_blocking: bool = False) -> "ImageSizes":
        valid, original = (t.to(device, non_blocking=non_blocking) for t in (self.valid, self.original))
        return ImageSizes(self.padded, valid, original)


@dataclass(frozen=True, slots=True)
class BoxTargets:
    """Annotated boxes of a batch, padded to the fullest image (N may be 0).

    Attributes:
        boxes: (B, N, 4) float32, x1 y1 x2 y2 in pixels of the padded batch; zeros where padded.
        labels: (B, N) int64, 0 .. K-1; -1 where padded.
        crowd: (B, N) bool, the box marks a crowd: nothing inside it is background, nothing is matched to it.
        annotated: (B,) bool, the image was searched for boxes; False adds nothing to a loss.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    annotated: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> "BoxTargets":
        move = (getattr(self, name).to(device, non_blocking=non_blocking) for name in self.__slots__)
        return BoxTargets(*move)


@dataclass(frozen=True, slots=True)
class Targets:
    """Everything a head may learn from; a head reads its own part and ignores the rest.

    Attributes:
        seeds: (B,) int64, the key of each image's random draws in this epoch. A head that samples derives its draws
            from these alone, so that they depend neither on the batch, the process, nor on what ran before.
        boxes: for detection heads.
    """

    seeds: Tensor
    boxes: BoxTargets | None = None

    def to(self, device: torch.device, non_blocking: bool = False) -> "Targets":
        boxes = self.boxes.to(device, non_blocking) if self.boxes is not None else None
        return Targets(self.seeds.to(device, non_blocking=non_blocking), boxes)


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes found in one image, best first.

    Attributes:
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the original image.
        scores: (N,) float32, 0 .. 1.
        labels: (N,) int64, 0 .. K-1.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


Prediction = Detections


class Head(nn.Module, ABC):
    """Turns feature maps into losses or predictions. It owns its neck.

    A constructor takes `(features, num_classes, **options)`, reads channels and strides from `features`, and raises
    `UserError` when a level or stride it needs is missing.

    Attributes:
        reads: the part of `Targets` it learns from: "boxes".
    """

    reads: ClassVar[str]

    @abstractmethod
    def loss(self, features: dict[str, Tensor], images: ImageSizes, targets: Targets) -> dict[str, Tensor]:
        """Named scalar losses, always all of them; an image without targets of this head's kind adds zero."""

    @abstractmethod
    def predict(self, features: dict[str, Tensor], images: ImageSizes) -> list[Prediction]:
        """One prediction an image, in pixels of the original image."""


def require_levels(head: str, features: Mapping[str, FeatureSpec], needed: tuple[str, ...]) -> None:
    """Raise `UserError` naming the levels that `head` needs and the backbone lacks."""
    missing = [level for level in needed if level not in features]
    if missing:
        raise UserError(
            f"{head} needs the levels {', '.join(needed)}; the backbone gives {', '.join(features)}, "
            f"so {', '.join(missing)} is missing"
        )


heads: Registry[Head] = Registry("head", "polyhead.heads")
register_head = heads.register
