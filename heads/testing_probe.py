"""What the test of heads feeds them: random feature maps of two images, and targets of every kind."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from backbones.contract import FeatureSpec
from heads.contract import (
    IGNORED,
    BoxTargets,
    Head,
    ImageSizes,
    LabelTargets,
    MaskTargets,
    Outlines,
    Prediction,
    Targets,
)

CLASSES = 3
LEVELS = {f"c{index}": FeatureSpec(32, 2**index) for index in range(1, 6)}
PADDED = (64, 96)


class Probe:
    """Builds heads and calls them.

    Args:
        factory: takes features and a number of classes.
        features: the levels.
        mask_planes: of the masks.
    """

    original = ((128, 192), (100, 140))

    def __init__(self, factory: Callable[..., Head], features: Mapping[str, FeatureSpec], mask_planes: int) -> None:
        self.factory, self.features, self.mask_planes = factory, dict(features), mask_planes

    def build(self, seed: int = 0) -> Head:
        """A head with random weights."""
        torch.manual_seed(seed)
        return self.factory(self.features, CLASSES)

    def losses(
        self,
        head: Head,
        *,
        images: Sequence[int] = (0, 1),
        annotated: Iterable[int] = (0, 1),
        targets: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """Of the named images, of which some are annotated; without `targets`, there are none at all."""
        torch.manual_seed(0)  # for heads that draw
        chosen = list(images)
        known = torch.tensor([image in set(annotated) for image in chosen])
        given = _targets(chosen, known, self.mask_planes) if targets else Targets(torch.tensor([11, 12])[chosen])
        return head.loss(self._maps(chosen, dtype), self._sizes(chosen), given)

    @torch.no_grad()
    def predictions(
        self, head: Head, *, images: Sequence[int] = (0, 1), dtype: torch.dtype = torch.float32
    ) -> Sequence[Prediction]:
        """Of the named images."""
        torch.manual_seed(0)
        return head.predict(self._maps(list(images), dtype), self._sizes(list(images)))

    def _maps(self, images: list[int], dtype: torch.dtype) -> dict[str, Tensor]:
        generator, maps = torch.Generator().manual_seed(0), {}
        for name, spec in self.features.items():
            size = (-(-PADDED[0] // spec.stride), -(-PADDED[1] // spec.stride))
            level = torch.randn(2, spec.channels, *size, generator=generator)
            maps[name] = level[images].to(dtype).contiguous(memory_format=torch.channels_last)
        return maps

    def _sizes(self, images: list[int]) -> ImageSizes:
        valid, original = torch.tensor([[64, 96], [50, 70]]), torch.tensor(self.original)
        return ImageSizes(PADDED, valid[images], original[images])


def _targets(images: list[int], annotated: Tensor, mask_planes: int) -> Targets:
    boxes = torch.tensor([[[8.0, 8, 40, 40], [50, 10, 90, 60]], [[10, 6, 60, 44], [0, 0, 0, 0]]])
    labels = torch.tensor([[0, 2], [1, -1]])
    drawn = np.zeros((2, 2, *PADDED), np.uint8)
    masks = torch.zeros(2, 1, *PADDED, dtype=torch.uint8)
    for image, (own, classes) in enumerate(zip(boxes.int().tolist(), labels.tolist(), strict=True)):
        for row, ((left, top, right, bottom), label) in enumerate(zip(own, classes, strict=True)):
            drawn[image, row, top:bottom, left:right] = label >= 0
            masks[image, 0, top:bottom, left:right] = label + 1
    masks[1, :, 50:] = masks[1, :, :, 70:] = IGNORED
    if mask_planes > 1:
        planes = (masks == torch.arange(1, mask_planes + 1, dtype=torch.uint8).view(-1, 1, 1)).to(torch.uint8)
        masks = torch.where(masks == IGNORED, masks, planes)
    outlines = Outlines(torch.from_numpy(np.packbits(drawn, axis=-1))[images], (labels >= 0)[images])
    crowd = torch.zeros(2, 2, dtype=torch.bool)
    return Targets(
        torch.tensor([11, 12])[images],
        BoxTargets(boxes[images], labels[images], crowd[images], annotated, outlines),
        LabelTargets(torch.tensor([[1.0, 0, 0], [0, 0, 1]])[images], annotated),
        MaskTargets(masks[images], annotated),
    )


def different(one: Prediction, other: Prediction) -> bool:
    """Whether two predictions differ by more than rounding."""
    for field in fields(one):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(ours, Tensor):
            if ours.shape != theirs.shape or not torch.allclose(ours.double(), theirs.double(), rtol=1e-3, atol=1e-3):
                return True
        elif ours != theirs:
            return True
    return False
