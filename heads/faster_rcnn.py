"""Faster R-CNN on a feature pyramid (https://arxiv.org/abs/1506.01497, https://arxiv.org/abs/1612.03144)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from backbones.contract import FeatureSpec
from heads.anchors import Anchors
from heads.box_loss import BoxLoss
from heads.box_targets import at_least_one_box
from heads.contract import (
    BoxTargets,
    Detections,
    Explainable,
    Head,
    ImageSizes,
    PaddedDetections,
    PaddedDetector,
    Prediction,
    Targets,
    register_head,
)
from heads.fpn import FPN, ExtraLevel
from heads.normaliser import LossSums, mean_losses
from heads.option_checks import require
from heads.roi_align import Pooling
from heads.roi_head import RoIHead, RoISamples, RoISettings, in_batch_pixels
from heads.rpn import RPN, Proposals, RPNSettings
from heads.shared_options import share_options

POOLED_LEVELS = ("p2", "p3", "p4", "p5")


@register_head("faster_rcnn")
class FasterRCNN(Head, Explainable, PaddedDetector):
    """Boxes of K classes, in two stages: proposals, then their classification and refinement.

    Other heads of two stages extend it: they change `_second_stage_loss_sums`, `_second_stage`,
    and what they add to detections.

    Args:
        features: of the backbone; needs c2 to c5.
        num_classes: K, without background.
        fpn_channels: of every pyramid level.
        extra_level: how P6 is made, see `FPN`.
        anchor_sizes: square root of the anchors' area in pixels, for P2 to P6.
        aspect_ratios: height / width of the anchors at each cell.
        rpn_pre_nms: proposals a level kept before non-maximum suppression, in the loss.
        rpn_post_nms: proposals an image kept after it, in the loss.
        rpn_pre_nms_test: as rpn_pre_nms, in prediction.
        rpn_post_nms_test: as rpn_post_nms, in prediction.
        rpn_nms_iou: of two proposals of one level with a larger IoU the worse is dropped.
        rpn_positive_iou: an anchor with at least this IoU with a box is an object; so is a box's best anchor.
        rpn_negative_iou: an anchor with less IoU with every box is background.
        rpn_samples: anchors an image the RPN loss is computed on.
        rpn_positive_fraction: at most this share of them are objects.
        roi_samples: proposals an image the second stage's loss is computed on.
        roi_positive_fraction: at most this share of them are objects.
        roi_positive_iou: a proposal with at least this IoU with a box is an object, any other background.
        roi_size: side of the pooled map, in cells.
        roi_sampling_ratio: points along each side of a cell that RoIAlign averages; 0 for as many as fit the box, as
            Detectron2 and MMDetection do, slower on a CPU.
        roi_aligned: shift boxes by half a feature cell before pooling, as Detectron2 and MMDetection do.
        exact_anchors: neither round the sides of anchors to whole pixels nor squeeze the cells of P6 into the image,
            as Detectron2 and MMDetection do not; torchvision does both.
        box_head_channels: width of the second stage's fully connected layers.
        box_loss: `l1`, `smooth_l1` (beta 1/9) on offsets, or `giou` on boxes; of both stages.
        box_loss_weight: factor on the second stage's box loss. Its offsets are scaled by ten, so 10 brings `giou` to
            the size of the other two.
        class_agnostic: one refined box for all classes instead of one each.
        score_threshold: detections that score no more are dropped, 0 .. 1.
        nms_iou: of two detections of one class with a larger IoU the worse is dropped.
        detections_per_image: at most this many are returned.

    Raises:
        UserError: the backbone lacks a level, or an option is out of range.
    """

    reads = "boxes"
    name: ClassVar[str] = "faster_rcnn"
    fixed: ClassVar[tuple[str, ...]] = ()  # options that a head which extends this one decides itself

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        share_options(cls, without=cls.fixed)

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        fpn_channels: int = 256,
        extra_level: ExtraLevel = "pool",
        anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512),
        aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
        rpn_pre_nms: int = 2000,
        rpn_post_nms: int = 2000,
        rpn_pre_nms_test: int = 1000,
        rpn_post_nms_test: int = 1000,
        rpn_nms_iou: float = 0.7,
        rpn_positive_iou: float = 0.7,
        rpn_negative_iou: float = 0.3,
        rpn_samples: int = 256,
        rpn_positive_fraction: float = 0.5,
        roi_samples: int = 512,
        roi_positive_fraction: float = 0.25,
        roi_positive_iou: float = 0.5,
        roi_size: int = 7,
        roi_sampling_ratio: int = 2,
        roi_aligned: bool = False,
        exact_anchors: bool = False,
        box_head_channels: int = 1024,
        box_loss: BoxLoss = "smooth_l1",
        box_loss_weight: float = 1.0,
        class_agnostic: bool = False,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        detections_per_image: int = 100,
    ) -> None:
        super().__init__()
        require(self.name, "num_classes", num_classes, num_classes >= 1, "at least 1")
        require(self.name, "roi_sampling_ratio", roi_sampling_ratio, roi_sampling_ratio >= 0, "at least 0")
        require(self.name, "box_loss", box_loss, box_loss in ("l1", "smooth_l1", "giou"), "l1, smooth_l1 or giou")
        in_order = 0 <= rpn_negative_iou <= rpn_positive_iou <= 1
        require(
            self.name, "rpn_negative_iou", rpn_negative_iou, in_order, f"0 to rpn_positive_iou ({rpn_positive_iou})"
        )
        self.fpn = FPN(features, fpn_channels, extra_level)
        levels = self.fpn.features
        fits = len(anchor_sizes) == len(levels)
        require(
            self.name, "anchor_sizes", anchor_sizes, fits, f"{len(levels)} sizes, one for each of {', '.join(levels)}"
        )
        self.train_counts = (rpn_pre_nms, rpn_post_nms)
        self.test_counts = (rpn_pre_nms_test, rpn_post_nms_test)
        self.rpn = RPN(
            fpn_channels,
            anchor_sizes,
            aspect_ratios,
            RPNSettings(
                positive_iou=rpn_positive_iou,
                negative_iou=rpn_negative_iou,
                samples=rpn_samples,
                positive_fraction=rpn_positive_fraction,
                nms_iou=rpn_nms_iou,
                box_loss=box_loss,
            ),
            [level.stride for level in levels.values()] if exact_anchors else None,
        )
        self.roi_head = RoIHead(
            fpn_channels,
            [levels[name].stride for name in POOLED_LEVELS],
            num_classes,
            box_head_channels,
            Pooling(roi_size, roi_sampling_ratio, roi_aligned),
            RoISettings(
                positive_iou=roi_positive_iou,
                samples=roi_samples,
                positive_fraction=roi_positive_fraction,
                box_loss=box_loss,
                box_loss_weight=box_loss_weight,
                class_agnostic=class_agnostic,
                score_threshold=score_threshold,
                nms_iou=nms_iou,
                detections_per_image=detections_per_image,
            ),
        )

    def loss(self, features: dict[str, Tensor], images: ImageSizes, targets: Targets) -> dict[str, Tensor]:
        """Four scalars, float32: `loss_rpn_objectness`, `loss_rpn_box`, `loss_roi_classification`, `loss_roi_box`.

        Each is a sum over sampled anchors or proposals, divided by how many were sampled, over all images of all
        processes. All are zero, and connected to the graph, when no image is annotated.
        """
        boxes = at_least_one_box(targets.boxes, len(images), images.valid.device)
        pyramid = self.fpn(features)
        # The loss needs the RPN at the sampled anchors only, and computes those again: most of the arithmetic of the
        # backward pass through all of them would be on zeros.
        anchors, proposals = self._propose(pyramid, images, self.train_counts)
        objectness, box, drawn = self.rpn.loss_sums(list(pyramid.values()), anchors, images, targets.seeds, boxes)
        first = {"loss_rpn_objectness": (objectness, drawn), "loss_rpn_box": (box, drawn)}
        samples = self.roi_head.sample(proposals, targets.seeds, boxes)
        return mean_losses(first | self._second_stage_loss_sums(pooled_levels(pyramid), samples, images, boxes))

    def predict(self, features: dict[str, Tensor], images: ImageSizes) -> Sequence[Prediction]:
        """Detections of each image on the features' device; see `Detections`."""
        pyramid = self.fpn(features)
        _, proposals = self._propose(pyramid, images, self.test_counts)
        return self._detect(pooled_levels(pyramid), proposals, images)

    def predict_padded(self, features: dict[str, Tensor], images: ImageSizes) -> PaddedDetections:
        pyramid = self.fpn(features)
        output = self.rpn(list(pyramid.values()), images.padded)
        return self._detect_padded(
            pooled_levels(pyramid), self.rpn.propose_padded(output, images, *self.test_counts), images
        )

    def class_logits(
        self, features: dict[str, Tensor], images: ImageSizes, predictions: Sequence[Prediction]
    ) -> list[Tensor]:
        """(N, K) an image: the second stage's, of the boxes themselves.

        The score that a box comes with is that of the proposal which it was refined from: the two differ, by a few
        hundredths as a rule.
        """
        pyramid = self.fpn(features)
        found = [one for one in predictions if isinstance(one, Detections)]
        logits = self._logits(pooled_levels(pyramid), *in_batch_pixels(found, images))
        return list(logits[:, 1:].split_with_sizes([len(one.boxes) for one in found]))

    def _second_stage_loss_sums(
        self, levels: list[Tensor], samples: RoISamples, images: ImageSizes, boxes: BoxTargets
    ) -> LossSums:
        """The losses of what follows the proposals, on those drawn for training; `boxes` has room for one at least."""
        logits, deltas = self.roi_head(levels, *samples.flat())
        classification, box, count = self.roi_head.loss_sums(logits, deltas, samples)
        return {"loss_roi_classification": (classification, count), "loss_roi_box": (box, count)}

    def _detect(self, levels: list[Tensor], proposals: Proposals, images: ImageSizes) -> list[Detections]:
        """What follows the proposals in prediction."""
        refined, scores = self._second_stage(levels, *proposals.flat(), images)
        return self.roi_head.choose(refined, scores, proposals.valid.sum(dim=1), images)

    def _detect_padded(self, levels: list[Tensor], proposals: Proposals, images: ImageSizes) -> PaddedDetections:
        """What follows the proposals in an exported graph."""
        refined, scores = self._second_stage(levels, *proposals.all_of_them(), images)
        return self.roi_head.choose_padded(refined, scores, proposals.valid)

    def _second_stage(
        self, levels: list[Tensor], boxes: Tensor, image_index: Tensor, images: ImageSizes
    ) -> tuple[Tensor, Tensor]:
        """Proposals (R, 4) of images (R,) -> boxes (R, K or 1, 4) and scores (R, K + 1), background first."""
        return self.roi_head.detect(levels, boxes, image_index, images)

    def _logits(self, levels: list[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """(R, K + 1) of boxes (R, 4) of images (R,), background first."""
        logits: Tensor = self.roi_head(levels, boxes, image_index)[0]
        return logits

    @torch.no_grad()
    def _propose(
        self, pyramid: Mapping[str, Tensor], images: ImageSizes, counts: tuple[int, int]
    ) -> tuple[Anchors, Proposals]:
        output = self.rpn(list(pyramid.values()), images.padded)
        pre_nms, post_nms = counts
        return output.anchors, self.rpn.propose(output, images, pre_nms, post_nms)


def pooled_levels(pyramid: Mapping[str, Tensor]) -> list[Tensor]:
    """The levels that boxes are pooled from."""
    return [pyramid[name] for name in POOLED_LEVELS]
