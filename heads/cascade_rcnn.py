"""Cascade R-CNN on a feature pyramid (https://arxiv.org/abs/1712.00726), with and without masks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from backbones.contract import FeatureSpec
from heads.contract import BoxTargets, ImageSizes, register_head
from heads.faster_rcnn import POOLED_LEVELS, FasterRCNN
from heads.mask_rcnn import MaskRCNN
from heads.normaliser import LossSums
from heads.option_checks import require
from heads.roi_head import RoIHead, RoISamples
from heads.suppression import large_enough

Weights = tuple[float, float, float, float]


@register_head("cascade_rcnn")
class CascadeRCNN(FasterRCNN):
    """Boxes of K classes, refined several times: each stage starts from the boxes of the one before, and is trained to
    call an object only what fits it more closely.

    The first stage is that of a Faster R-CNN with one box for all classes. The others have the same layers, with
    weights of their own. Where proposals are drawn for the first stage, all of the boxes that it makes of them go on
    to the next, as in Detectron2. A detection has the boxes of the last stage, and the mean of all stages'
    probabilities (section 4.3). The losses of later stages are `loss_roi2_classification`, `loss_roi2_box` and so on.
    The further options are those of `FasterRCNN`.

    Args:
        features: of the backbone; needs c2 to c5.
        num_classes: K, without background.
        stage_ious: for each stage, a box with at least this IoU with an annotated one is an object, any other
            background.
        stage_offset_weights: for each stage, what the four offsets are multiplied by, to bring them to unit variance.
        stage_loss_weights: for each stage, the factor on its losses.
        options: of `FasterRCNN`.

    Raises:
        UserError: the backbone lacks a level, or an option is out of range.
    """

    name = "cascade_rcnn"
    fixed = ("roi_positive_iou", "class_agnostic")

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        stage_ious: tuple[float, ...] = (0.5, 0.6, 0.7),
        stage_offset_weights: tuple[Weights, ...] = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15)),
        stage_loss_weights: tuple[float, ...] = (1.0, 0.5, 0.25),
        **options: Any,
    ) -> None:
        count = len(stage_ious)
        in_range = count >= 1 and all(0 <= iou <= 1 for iou in stage_ious)
        require(self.name, "stage_ious", stage_ious, in_range, "one at least, each 0 to 1")
        for name, values in (
            ("stage_offset_weights", stage_offset_weights),
            ("stage_loss_weights", stage_loss_weights),
        ):
            require(self.name, name, values, len(values) == count, f"{count} of them, as stage_ious has")
        super().__init__(features, num_classes, roi_positive_iou=stage_ious[0], class_agnostic=True, **options)
        plain, channels = self.roi_head, self.fpn.features[POOLED_LEVELS[0]].channels
        self.roi_head, *later = (
            RoIHead(
                channels,
                plain.strides,
                num_classes,
                plain.fc7.out_features,
                plain.pooling,
                replace(plain.settings, positive_iou=iou, offset_weights=weights),
            )
            for iou, weights in zip(stage_ious, stage_offset_weights, strict=True)
        )
        self.later_stages = nn.ModuleList(later)
        self.stage_loss_weights = tuple(stage_loss_weights)

    @property
    def stages(self) -> list[RoIHead]:
        """All of them, in order."""
        return [self.roi_head, *(stage for stage in self.later_stages if isinstance(stage, RoIHead))]

    def _second_stage_loss_sums(
        self, levels: list[Tensor], samples: RoISamples, images: ImageSizes, boxes: BoxTargets
    ) -> LossSums:
        sums: LossSums = {}
        stages = self.stages
        for number, (stage, weight) in enumerate(zip(stages, self.stage_loss_weights, strict=True), 1):
            start, image_index = samples.flat()
            logits, deltas = stage(levels, start, image_index)
            classification, box, count = stage.loss_sums(logits, deltas, samples)
            name = f"loss_roi{number}" if number > 1 else "loss_roi"
            sums |= {f"{name}_classification": (weight * classification, count), f"{name}_box": (weight * box, count)}
            if number < len(stages):
                refined = stage.refine(start, deltas.detach(), images.valid[image_index]).view_as(samples.boxes)
                # Nothing can be encoded against a box without area.
                samples = stages[number].label(refined, large_enough(refined) & samples.valid, boxes)
        return sums

    @torch.no_grad()
    def _second_stage(
        self, levels: list[Tensor], boxes: Tensor, image_index: Tensor, images: ImageSizes
    ) -> tuple[Tensor, Tensor]:
        scores = []
        for stage in self.stages:
            refined, own = stage.detect(levels, boxes, image_index, images)
            scores.append(own)
            boxes = refined[:, 0]
        return boxes[:, None], torch.stack(scores).mean(dim=0)

    def _logits(self, levels: list[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """The mean of all stages', of the boxes as they are."""
        return torch.stack([stage(levels, boxes, image_index)[0] for stage in self.stages]).mean(dim=0)


@register_head("cascade_mask_rcnn")
class CascadeMaskRCNN(MaskRCNN, CascadeRCNN):
    """Boxes from a cascade and the mask of each: what `MaskRCNN` adds to a head of two stages, added to `CascadeRCNN`.

    As in Detectron2 there is one mask branch. It learns from the boxes that are drawn for the first stage, and draws
    in those that come out of the last. The options are those of the two.
    """

    name = "cascade_mask_rcnn"
