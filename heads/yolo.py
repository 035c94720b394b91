"""A one-stage detector of the YOLO kind: no anchors, decoupled branches, distributions of distances, aligned tasks.

Put together from what papers describe: cells that predict boxes directly (YOLO, Redmon et al.,
https://arxiv.org/abs/1506.02640; without anchors and with a branch each for classes and boxes, YOLOX, Ge et al.,
https://arxiv.org/abs/2107.08430, section 2.1), quality and distribution focal loss (Li et al.,
https://arxiv.org/abs/2006.04388), task-aligned assignment (TOOD, Feng et al., https://arxiv.org/abs/2108.07755,
section 3.2) and complete IoU (Zheng et al., https://arxiv.org/abs/1911.08287). The pyramid is the FPN that the other
heads have; weights of other YOLOs do not fit.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from backbones.contract import FeatureSpec
from heads.anchors import AnchorGenerator
from heads.box_loss import overlap_loss_sum
from heads.box_overlap import OverlapLoss
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
from heads.distance_distribution import distribution_focal_loss, expected_distances
from heads.focal_loss import quality_focal_loss_sum
from heads.fpn import FPN
from heads.normaliser import mean_count
from heads.option_checks import require
from heads.points import Points, boxes_around, distances_to
from heads.task_aligned_assigner import Alignment, assign_aligned

LEVELS = ("c3", "c4", "c5")


@register_head("yolo")
class YOLO(Head, Explainable, PaddedDetector):
    """Boxes of K classes in one stage, from every cell of P3 to P5; see the file for sources.

    Args:
        features: of the backbone; needs c3 to c5.
        num_classes: K, without background.
        fpn_channels: of every pyramid level and branch.
        tower_depth: convolutions before the classes, and as many others before the boxes.
        tower_norm: `gn` GroupNorm in the towers, or `none`.
        reg_max: R; the distance from the middle of a cell to each side of its box is a distribution over 0 .. R cells.
        assigned_cells: at most so many cells learn to find a box.
        score_power: of the score in the product that these are chosen by (alpha in TOOD).
        iou_power: of the IoU in it (beta in TOOD).
        focal_beta: how much less cells count in the classification loss whose score is near its target, 0 .. ; 0 is
            binary cross-entropy.
        box_loss: `ciou` or `giou`, see `heads.box_overlap.overlap_loss`.
        box_loss_weight: factor on the box loss.
        distribution_loss_weight: factor on the loss of the distributions.
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
        tower_depth: int = 2,
        tower_norm: TowerNorm = "gn",
        reg_max: int = 16,
        assigned_cells: int = 13,
        score_power: float = 1.0,
        iou_power: float = 6.0,
        focal_beta: float = 2.0,
        box_loss: OverlapLoss = "ciou",
        box_loss_weight: float = 2.0,
        distribution_loss_weight: float = 0.25,
        score_threshold: float = 0.05,
        pre_nms: int = 1000,
        nms_iou: float = 0.6,
        detections_per_image: int = 100,
    ) -> None:
        super().__init__()
        name = "yolo"
        require(name, "num_classes", num_classes, num_classes >= 1, "at least 1")
        require(name, "tower_norm", tower_norm, tower_norm in ("none", "gn"), "none or gn")
        require(name, "reg_max", reg_max, reg_max >= 1, "at least 1")
        require(name, "assigned_cells", assigned_cells, assigned_cells >= 1, "at least 1")
        require(name, "box_loss", box_loss, box_loss in ("giou", "ciou"), "ciou or giou")
        self.fpn = FPN(features, fpn_channels, levels=LEVELS, extra_levels=0)
        strides = [level.stride for level in self.fpn.features.values()]
        self.num_classes = num_classes
        self.alignment = Alignment(assigned_cells, score_power, iou_power)
        self.focal_beta, self.box_loss = focal_beta, box_loss
        self.box_loss_weight, self.distribution_loss_weight = box_loss_weight, distribution_loss_weight
        self.selection = Selection(score_threshold, pre_nms, nms_iou, detections_per_image)
        # Squares of the size of a cell, where the cell is.
        self.cells = AnchorGenerator(strides, (1.0,), strides, offset=0.5)
        self.classification_tower = Tower(fpn_channels, tower_depth, tower_norm, activation=nn.SiLU)
        self.box_tower = Tower(fpn_channels, tower_depth, tower_norm, activation=nn.SiLU)
        self.cls_logits = small_weights(nn.Conv2d(fpn_channels, num_classes, 3, padding=1), PRIOR)
        self.bbox_pred = small_weights(nn.Conv2d(fpn_channels, 4 * (reg_max + 1), 3, padding=1))

    def forward(self, features: dict[str, Tensor], padded: tuple[int, int]) -> tuple[Points, Tensor, Tensor]:
        """The A cells of a batch of `padded` height and width, and what is told there.

        That is logits (B, A, K) of classes, and (B, A, 4, R + 1) of distances in cells to the left, upper, right and
        lower side.
        """
        levels = list(self.fpn(features).values())
        logits = per_cell([self.cls_logits(self.classification_tower(level)) for level in levels], self.num_classes)
        bins = self.bbox_pred.out_channels // 4
        distances = per_cell([self.bbox_pred(self.box_tower(level)) for level in levels], 4 * bins)
        points = Points.of(self.cells(padded, [(level.shape[-2], level.shape[-1]) for level in levels]))
        return points, logits, distances.reshape(*distances.shape[:2], 4, bins)

    def loss(self, features: dict[str, Tensor], images: ImageSizes, targets: Targets) -> dict[str, Tensor]:
        """Three scalars, float32: `loss_classification`, `loss_box`, `loss_distribution`.

        A cell that is to find a box has to score how well it is aligned with it, and counts by that in the other two
        losses. Each is a sum over cells, divided by the sum of these alignments over all images of all processes, if
        it is above one. Cells in an image's padding take no part. All are zero, and connected to the graph, when no
        image is annotated.
        """
        boxes = at_least_one_box(targets.boxes, len(images), images.valid.device)
        points, logits, distributions = self(features, images.padded)
        found = boxes_around(points, expected_distances(distributions))
        candidates = points.inside(images.valid) & boxes.annotated[:, None]
        matches, alignment = assign_aligned(logits, found, points.centres, candidates, boxes, self.alignment)
        labels = boxes.labels.gather(1, matches.index)
        there = labels[..., None] == torch.arange(self.num_classes, device=labels.device)
        counted = matches.positive | matches.negative
        wanted = chosen_boxes(boxes.boxes.float(), matches.index)
        distribution = distribution_focal_loss(distributions, distances_to(points, wanted)).mean(dim=-1)
        count = mean_count(alignment.sum())
        return {
            "loss_classification": quality_focal_loss_sum(
                logits, torch.where(there, alignment[..., None], 0.0), counted, self.focal_beta
            )
            / count,
            "loss_box": self.box_loss_weight * overlap_loss_sum(self.box_loss, found, wanted, alignment) / count,
            "loss_distribution": self.distribution_loss_weight * (distribution * alignment).sum() / count,
        }

    def predict(self, features: dict[str, Tensor], images: ImageSizes) -> Sequence[Prediction]:
        """Detections of each image on the features' device, none of a cell in its padding; see `Detections`."""
        return select_detections(*self._entries(features, images), images, self.selection)

    def predict_padded(self, features: dict[str, Tensor], images: ImageSizes) -> PaddedDetections:
        return select_padded(*self._entries(features, images), images, self.selection)

    def _entries(
        self, features: dict[str, Tensor], images: ImageSizes
    ) -> tuple[Tensor, tuple[int, ...], Callable[[Tensor], Tensor]]:
        """Scores (B, A, K), entries a level, and what gives the boxes (B, M, 4) of entries (B, M)."""
        points, logits, distributions = self(features, images.padded)
        scores = torch.where(points.inside(images.valid)[..., None], logits.sigmoid(), -1.0)

        def boxes_at(index: Tensor) -> Tensor:
            image = torch.arange(index.shape[0], device=index.device)[:, None]
            return boxes_around(points.chosen(index), expected_distances(distributions[image, index]))

        return scores, points.counts, boxes_at

    def class_logits(
        self, features: dict[str, Tensor], images: ImageSizes, predictions: Sequence[Prediction]
    ) -> list[Tensor]:
        """(N, K) an image: of the cells whose boxes come nearest to these; see `logits_of_boxes`."""
        points, logits, distributions = self(features, images.padded)
        boxes = boxes_around(points, expected_distances(distributions))
        return logits_of_boxes(logits, boxes, points.centres, images, predictions)
