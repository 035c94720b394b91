"""Mask R-CNN on a feature pyramid (https://arxiv.org/abs/1703.06870)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from backbones.contract import FeatureSpec
from heads.contract import BoxTargets, Detections, ImageSizes, PaddedDetections, register_head
from heads.faster_rcnn import POOLED_LEVELS, FasterRCNN
from heads.mask_head import MaskHead
from heads.normaliser import LossSums
from heads.option_checks import require
from heads.roi_align import Pooling
from heads.roi_head import RoISamples
from heads.rpn import Proposals


@register_head("mask_rcnn")
class MaskRCNN(FasterRCNN):
    """Boxes of K classes and the mask of each: Faster R-CNN with a branch that draws what is in a box.

    The mask of a class is drawn without regard to the others: which class it is, the box says. Beside the losses of
    `FasterRCNN` there is `loss_mask`: cross entropy by pixel, in the mask of its class, over the sampled proposals that
    hold an object with an outline; one without teaches boxes alone. The further options are those of `FasterRCNN`.

    Args:
        features: of the backbone; needs c2 to c5.
        num_classes: K, without background.
        mask_roi_size: side of the map that is pooled for the mask, in cells; the mask has twice as many.
        mask_convs: 3x3 convolutions of the branch.
        mask_channels: of each.
        mask_class_agnostic: one mask for all classes instead of one each.
        options: of `FasterRCNN`.

    Raises:
        UserError: the backbone lacks a level, or an option is out of range.
    """

    name = "mask_rcnn"
    reads_outlines = True

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        mask_roi_size: int = 14,
        mask_convs: int = 4,
        mask_channels: int = 256,
        mask_class_agnostic: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(features, num_classes, **options)
        require(self.name, "mask_roi_size", mask_roi_size, mask_roi_size >= 1, "at least 1")
        require(self.name, "mask_convs", mask_convs, mask_convs >= 0, "at least 0")
        pooling = self.roi_head.pooling
        self.mask_head = MaskHead(
            self.fpn.features[POOLED_LEVELS[0]].channels,
            self.roi_head.strides,
            num_classes,
            mask_convs,
            mask_channels,
            Pooling(mask_roi_size, pooling.sampling_ratio, pooling.aligned),
            mask_class_agnostic,
        )

    def _second_stage_loss_sums(
        self, levels: list[Tensor], samples: RoISamples, images: ImageSizes, boxes: BoxTargets
    ) -> LossSums:
        first = super()._second_stage_loss_sums(levels, samples, images, boxes)
        return {**first, "loss_mask": self.mask_head.loss_sum(levels, samples, boxes)}

    def _detect(self, levels: list[Tensor], proposals: Proposals, images: ImageSizes) -> list[Detections]:
        return self.mask_head.complete(levels, super()._detect(levels, proposals, images), images)

    def _detect_padded(self, levels: list[Tensor], proposals: Proposals, images: ImageSizes) -> PaddedDetections:
        return self.mask_head.complete_padded(levels, super()._detect_padded(levels, proposals, images))
