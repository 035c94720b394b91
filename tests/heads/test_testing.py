"""Every registered head keeps the contract, and heads that break it are told how."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from backbones import FeatureSpec
from heads import Detections, Head, Targets, heads
from heads.contract import BoxTargets, ImageSizes
from heads.testing import check_head
from heads.testing_probe import LEVELS
from tests.tasks.test_pairs import OPTIONS

# What some heads need of their levels.
STRIDES = {"deeplabv3": {"c5": 16}, "deeplabv3plus": {"c5": 16}}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in heads.names()},
    "classification, several": ("classification", {"target": "multi"}),
    "classification, numbers": ("classification", {"target": "regression"}),
    "unet, several": ("unet", {"target": "multilabel"}),
    "mask_rcnn, agnostic": ("mask_rcnn", {"mask_class_agnostic": True, "class_agnostic": True}),
    "fcos, no norm": ("fcos", {"tower_norm": "none"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_registered_heads_keep_the_contract(variant: str) -> None:
    name, options = VARIANTS[variant]
    strides = STRIDES.get(name, {})
    features = {level: FeatureSpec(spec.channels, strides.get(level, spec.stride)) for level, spec in LEVELS.items()}
    factory = partial(heads.factory(name), **{**OPTIONS.get(name, {}), **options})
    check_head(factory, features=features, mask_planes=3 if options.get("target") == "multilabel" else 1)


class Sound(Head):
    """Scores three classes at the middle of each image, and keeps the contract."""

    reads = "boxes"

    def __init__(self, features: Mapping[str, FeatureSpec], num_classes: int) -> None:
        super().__init__()
        self.scores = nn.Linear(features["c5"].channels, num_classes)

    def loss(self, features: dict[str, torch.Tensor], images: ImageSizes, targets: Targets) -> dict[str, torch.Tensor]:
        outputs = self.scores(features["c5"].mean((2, 3))).float()
        annotated = torch.zeros(len(images), dtype=torch.bool) if targets.boxes is None else targets.boxes.annotated
        each = torch.where(annotated, outputs.square().sum(dim=1), 0)
        return {"loss": each.sum() / annotated.sum().clamp(min=1)}

    def predict(self, features: dict[str, torch.Tensor], images: ImageSizes) -> list[Detections]:
        scores, labels = self.scores(features["c5"].mean((2, 3))).float().sigmoid().max(dim=1)
        boxes = torch.cat((images.original.flip(1) / 4, images.original.flip(1) / 2), dim=1)
        return [Detections(*(part[row, None] for part in (boxes, scores, labels))) for row in range(len(images))]


class TwoLosses(Sound):
    def loss(self, features: Any, images: Any, targets: Targets) -> Any:
        losses = super().loss(features, images, targets)
        return losses if targets.boxes is None else {**losses, "more": losses["loss"]}


class CountsAll(Sound):
    def loss(self, features: Any, images: ImageSizes, targets: Targets) -> Any:
        return {"loss": super().loss(features, images, targets)["loss"] / len(images)}


class LearnsFromAll(Sound):
    def loss(self, features: Any, images: ImageSizes, targets: Targets) -> Any:
        boxes = targets.boxes or BoxTargets(*([torch.zeros(0)] * 4))
        everything = BoxTargets(boxes.boxes, boxes.labels, boxes.crowd, torch.ones(len(images), dtype=torch.bool))
        return super().loss(features, images, Targets(targets.seeds, everything))


class CutOff(Sound):
    def loss(self, features: Any, images: Any, targets: Targets) -> Any:
        losses = super().loss(features, images, targets)
        none = targets.boxes is None or not targets.boxes.annotated.any()
        return {"loss": torch.zeros(())} if none else losses


class Unused(Sound):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unused = nn.Linear(2, 2)


class BatchPixels(Sound):
    def predict(self, features: Any, images: ImageSizes) -> Any:
        return [Detections(one.boxes * 3, one.scores, one.labels) for one in super().predict(features, images)]


class RawIds(Sound):
    def predict(self, features: Any, images: ImageSizes) -> Any:
        return [Detections(one.boxes, one.scores, one.labels + 3) for one in super().predict(features, images)]


class ComparesImages(Sound):
    def predict(self, features: Any, images: ImageSizes) -> Any:
        return super().predict({"c5": features["c5"] - features["c5"].mean(dim=0)}, images)


class Hidden(Sound):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.hidden = torch.randn(3)

    def predict(self, features: Any, images: ImageSizes) -> Any:
        found = super().predict(features, images)
        return [Detections(one.boxes, (one.scores + self.hidden[0]).sigmoid(), one.labels) for one in found]


class HalfLoss(Sound):
    def loss(self, features: Any, images: Any, targets: Targets) -> Any:
        return {"loss": super().loss(features, images, targets)["loss"].to(features["c5"].dtype)}


class LossesWhenTraining(Sound):
    def predict(self, features: Any, images: ImageSizes) -> Any:
        return [{"loss": 0.0}] * len(images) if self.training else super().predict(features, images)


class ReadsKeypoints(Sound):
    reads = "keypoints"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (TwoLosses, "the losses without any targets are loss; they must be loss, more there too"),
        (CountsAll, "with one beside it that is not annotated; leave that one out"),
        (LearnsFromAll, "where no image is annotated; it must be 0"),
        (CutOff, "is cut off from the weights where no image is annotated"),
        (Unused, r"unused\.weight trains but gets no gradient"),
        (BatchPixels, r"boxes leave their image of 192 x 128 pixels"),
        (RawIds, r"labels go from \d to \d; there are 3 classes, from 0"),
        (ComparesImages, "changes with the others of its batch"),
        (Hidden, "the same state dict predicts something else"),
        (HalfLoss, "compute losses in float32"),
        (LossesWhenTraining, "predict returns dict; a head that reads boxes returns Detections"),
        (ReadsKeypoints, "reads is 'keypoints'; set it to one of boxes, labels, masks"),
        (nn.Identity, r"it is no heads\.Head"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_breaks_it_is_told(head: Callable[..., Head], told: str) -> None:
    check_head(Sound)
    with pytest.raises(AssertionError, match=told):
        check_head(head)
