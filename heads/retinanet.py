"""RetinaNet on a feature pyramid (Lin et al., https://arxiv.org/abs/1708.02002)."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from backbones.contract import FeatureSpec
from heads.anchors import AnchorGenerator, Anchors
from heads.box_coder import BoxCoder
from heads.box_loss import BoxLoss, box_loss_sum
from heads.box_targets import at_least_one_box, chosen_boxes
from heads.contract import (
    Explainable,
    Head,
    ImageSizes,
    PaddedDetections,
    PaddedDetector,
    Prediction,
    Targets,
    register_head,
)
from heads.dense_outputs import PRIOR, Tower, TowerNorm, per_cell, small_weights
from heads.detection_selection import Selection, logits_of_boxes, select_detections, select_padded
from heads.focal_loss import focal_loss_sum
from heads.fpn import FPN, ExtraLevel
from heads.matcher import match
from heads.normaliser import mean_count
from heads.option_checks import require

LEVELS = ("c3", "c4", "c5")


@register_head("retinanet")
class RetinaNet(Head, Explainable, PaddedDetector):
    """Boxes of K classes in one stage: every anchor of P3 to P7 is classified and refined.

    Args:
        features: of the backbone; needs c3 to c5.
        num_classes: K, without background.
        fpn_channels: of every pyramid level and tower.
        extra_level: how P6 is made, see `FPN`; P7 is made from P6. The paper takes `c5`, torchvision's
            `retinanet_resnet50_fpn` `p5`.
        anchor_sizes: square root of the smallest anchors' area in pixels, for P3 to P7.
        scales_per_octave: anchors of so many sizes between one of these and its double, each 2 ** (1 / n) times the
            one before.
        aspect_ratios: height / width of the anchors at each cell.
        exact_anchors: neither round sizes and sides of anchors to whole pixels nor squeeze the cells of P6 and P7 into
            the image, as Detectron2 and MMDetection do not; torchvision does both.
        tower_depth: convolutions before the classes, and as many others before the boxes.
        tower_norm: `none`, or `gn` GroupNorm in the towers, as in torchvision's `retinanet_resnet50_fpn_v2`.
        positive_iou: an anchor with at least this IoU with a box is an object; so is a box's best anchor.
        negative_iou: an anchor with less IoU with every box is background.
        focal_alpha: weight of the class that is there in the focal loss, of all others 1 - alpha; 0 .. 1.
        focal_gamma: how much less easy anchors count in it, 0 .. .
        box_loss: `l1`, `smooth_l1` (beta 1/9) on offsets, or `giou` on boxes.
        box_loss_weight: factor on the box loss.
        score_threshold: detections that score no more are dropped, 0 .. 1.
        pre_nms: detections a level kept before non-maximum suppression.
        nms_iou: of two detections of one class with a larger IoU the worse is dropped.
        detections_per_image: at most this many are returned.

    Raises:
        UserError: the backbone lacks a level, or an option is out of range.
    """

    reads = "boxes"

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        fpn_channels: int = 256,
        extra_level: ExtraLevel = "p5",
        anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512),
        scales_per_octave: int = 3,
        aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
        exact_anchors: bool = False,
        tower_depth: int = 4,
        tower_norm: TowerNorm = "none",
        positive_iou: float = 0.5,
        negative_iou: float = 0.4,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        box_loss: BoxLoss = "l1",
        box_loss_weight: float = 1.0,
        score_threshold: float = 0.05,
        pre_nms: int = 1000,
        nms_iou: float = 0.5,
        detections_per_image: int = 100,
    ) -> None:
        super().__init__()
        name = "retinanet"
        require(name, "num_classes", num_classes, num_classes >= 1, "at least 1")
        require(name, "scales_per_octave", scales_per_octave, scales_per_octave >= 1, "at least 1")
        require(name, "tower_norm", tower_norm, tower_norm in ("none", "gn"), "none or gn")
        require(name, "box_loss", box_loss, box_loss in ("l1", "smooth_l1", "giou"), "l1, smooth_l1 or giou")
        in_order = 0 <= negative_iou <= positive_iou <= 1
        require(name, "negative_iou", negative_iou, in_order, f"0 to positive_iou ({positive_iou})")
        self.fpn = FPN(features, fpn_channels, extra_level, LEVELS, extra_levels=2)
        levels = self.fpn.features
        fits = len(anchor_sizes) == len(levels)
        require(name, "anchor_sizes", anchor_sizes, fits, f"{len(levels)} sizes, one for each of {', '.join(levels)}")
        self.num_classes = num_classes
        self.thresholds = (positive_iou, negative_iou)
        self.focal = (focal_alpha, focal_gamma)
        self.box_loss, self.box_loss_weight = box_loss, box_loss_weight
        self.selection = Selection(score_threshold, pre_nms, nms_iou, detections_per_image)
        self.coder = BoxCoder()
        octave = [2 ** (number / scales_per_octave) for number in range(scales_per_octave)]
        sizes = [[size * scale for scale in octave] for size in anchor_sizes]
        self.anchors = AnchorGenerator(
            sizes if exact_anchors else [[float(int(size)) for size in own] for own in sizes],
            aspect_ratios,
            [level.stride for level in levels.values()] if exact_anchors else None,
        )
        self.classification_tower = Tower(fpn_channels, tower_depth, tower_norm)
        self.box_tower = Tower(fpn_channels, tower_depth, tower_norm)
        at_cell = self.anchors.per_cell
        self.cls_logits = small_weights(nn.Conv2d(fpn_channels, at_cell * num_classes, 3, padding=1), PRIOR)
        self.bbox_pred = small_weights(nn.Conv2d(fpn_channels, at_cell * 4, 3, padding=1))

    def forward(self, features: dict[str, Tensor], padded: tuple[int, int]) -> tuple[Anchors, Tensor, Tensor]:
        """The A anchors of a batch of `padded` height and width, their logits (B, A, K) and offsets (B, A, 4)."""
        levels = list(self.fpn(features).values())
        logits = per_cell([self.cls_logits(self.classification_tower(level)) for level in levels], self.num_classes)
        deltas = per_cell([self.bbox_pred(self.box_tower(level)) for level in levels], 4)
        anchors = self.anchors(padded, [(level.shape[-2], level.shape[-1]) for level in levels])
        return anchors, logits, deltas

    def loss(self, features: dict[str, Tensor], images: ImageSizes, targets: Targets) -> dict[str, Tensor]:
        """Two scalars, float32: `loss_classification`, `loss_box`.

        Each is a sum over the anchors of an image, divided by how many of them are objects, and the mean of these over
        the annotated images of all processes. Anchors centred in an image's padding take no part. Both are zero, and
        connected to the graph, when no image is annotated.
        """
        boxes = at_least_one_box(targets.boxes, len(images), images.valid.device)
        anchors, logits, deltas = self(features, images.padded)
        inside = anchors.inside(images.valid) & boxes.annotated[:, None]
        matches = match(anchors.boxes, inside, boxes, *self.thresholds, low_quality=True)
        objects = matches.positive.sum(dim=1).clamp(min=1).float()
        labels = boxes.labels.gather(1, matches.index)
        classification = focal_loss_sum(logits, labels, matches.positive, matches.negative, *self.focal)
        wanted = chosen_boxes(boxes.boxes, matches.index)
        weight = matches.positive / objects[:, None]
        box = box_loss_sum(self.box_loss, self.coder, deltas, anchors.boxes, wanted, weight)
        annotated = mean_count(boxes.annotated.sum().float())
        return {
            "loss_classification": (classification / objects).sum() / annotated,
            "loss_box": self.box_loss_weight * box / annotated,
        }

    def predict(self, features: dict[str, Tensor], images: ImageSizes) -> Sequence[Prediction]:
        """Detections of each image on the features' device; see `Detections`.

        As in torchvision, anchors centred in an image's padding are asked too; their boxes are cut to the image.
        """
        return select_detections(*self._entries(features, images), images, self.selection)

    def predict_padded(self, features: dict[str, Tensor], images: ImageSizes) -> PaddedDetections:
        return select_padded(*self._entries(features, images), images, self.selection)

    def _entries(
        self, features: dict[str, Tensor], images: ImageSizes
    ) -> tuple[Tensor, tuple[int, ...], Callable[[Tensor], Tensor]]:
        """Scores (B, A, K), entries a level, and what gives the boxes (B, M, 4) of entries (B, M)."""
        anchors, logits, deltas = self(features, images.padded)

        def boxes_at(index: Tensor) -> Tensor:
            return self.coder.decode(chosen_boxes(deltas, index), anchors.boxes[index])

        return logits.sigmoid(), anchors.counts, boxes_at

    def class_logits(
        self, features: dict[str, Tensor], images: ImageSizes, predictions: Sequence[Prediction]
    ) -> list[Tensor]:
        """(N, K) an image: of the anchors whose refined boxes come nearest to these; see `logits_of_boxes`."""
        anchors, logits, deltas = self(features, images.padded)
        centres = (anchors.boxes[:, :2] + anchors.boxes[:, 2:]) / 2
        return logits_of_boxes(logits, self.coder.decode(deltas, anchors.boxes), centres, images, predictions)
