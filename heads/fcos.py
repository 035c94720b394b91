"""FCOS on a feature pyramid (Tian et al., https://arxiv.org/abs/1904.01355 and https://arxiv.org/abs/2006.09214)."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
from heads.focal_loss import focal_loss_sum
from heads.fpn import FPN, ExtraLevel
from heads.normaliser import mean_count
from heads.option_checks import require
from heads.point_assigner import assign_points
from heads.points import Points, boxes_around, distances_to

LEVELS = ("c3", "c4", "c5")


@register_head("fcos")
class FCOS(Head, Explainable, PaddedDetector):
    """Boxes of K classes in one stage and without anchors: every cell of P3 to P7 tells its distance from their sides.

    Args:
        features: of the backbone; needs c3 to c5.
        num_classes: K, without background.
        fpn_channels: of every pyramid level and tower.
        extra_level: how P6 is made, see `FPN`; P7 is made from P6.
        scale_limits: pixels; a level finds boxes whose farthest side is nearer than its number here and farther than
            that of the level before, for P3 to P6; P7 finds all larger ones.
        center_radius: cells; one that is no nearer to a box's centre, along either axis, does not find it.
        exact_points: cells of P6 and P7 are not squeezed into the image; torchvision's are.
        tower_depth: convolutions before the classes, and as many others before the boxes.
        tower_norm: `gn` GroupNorm in the towers, or `none`.
        focal_alpha: weight of the class that is there in the focal loss, of all others 1 - alpha; 0 .. 1.
        focal_gamma: how much less easy cells count in it, 0 .. .
        box_loss: `giou` or `ciou`, see `heads.box_overlap.overlap_loss`.
        box_loss_weight: factor on the box loss.
        score_threshold: detections that score no more are dropped, 0 .. 1.
        pre_nms: detections a level kept before non-maximum suppression.
        nms_iou: of two detections of one class with a larger IoU the worse is dropped.
        detections_per_image: at most this many are returned.

    Raises:
        UserError: the backbone lacks a level, or an option is out of range.
    """

    reads = "boxes"
    limits: Tensor

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        fpn_channels: int = 256,
        extra_level: ExtraLevel = "p5",
        scale_limits: tuple[float, ...] = (64, 128, 256, 512),
        center_radius: float = 1.5,
        exact_points: bool = False,
        tower_depth: int = 4,
        tower_norm: TowerNorm = "gn",
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        box_loss: OverlapLoss = "giou",
        box_loss_weight: float = 1.0,
        score_threshold: float = 0.2,
        pre_nms: int = 1000,
        nms_iou: float = 0.6,
        detections_per_image: int = 100,
    ) -> None:
        super().__init__()
        name = "fcos"
        require(name, "num_classes", num_classes, num_classes >= 1, "at least 1")
        require(name, "tower_norm", tower_norm, tower_norm in ("none", "gn"), "none or gn")
        require(name, "box_loss", box_loss, box_loss in ("giou", "ciou"), "giou or ciou")
        require(name, "center_radius", center_radius, center_radius > 0, "a number above 0")
        self.fpn = FPN(features, fpn_channels, extra_level, LEVELS, extra_levels=2)
        levels = list(self.fpn.features)
        strides = [level.stride for level in self.fpn.features.values()]
        fits = len(scale_limits) == len(levels) - 1 and list(scale_limits) == sorted(set(scale_limits))
        expected = f"{len(levels) - 1} rising numbers, one for each of {', '.join(levels[:-1])}"
        require(name, "scale_limits", scale_limits, fits, expected)
        self.num_classes = num_classes
        self.center_radius = center_radius
        self.register_buffer("limits", torch.tensor((0.0, *scale_limits, float("inf"))), persistent=False)
        self.focal = (focal_alpha, focal_gamma)
        self.box_loss, self.box_loss_weight = box_loss, box_loss_weight
        self.selection = Selection(score_threshold, pre_nms, nms_iou, detections_per_image)
        # Squares of the size of a cell: their centres are where a cell sees from.
        self.cells = AnchorGenerator(strides, (1.0,), strides if exact_points else None)
        self.classification_tower = Tower(fpn_channels, tower_depth, tower_norm, bias=True)
        self.box_tower = Tower(fpn_channels, tower_depth, tower_norm, bias=True)
        self.cls_logits = small_weights(nn.Conv2d(fpn_channels, num_classes, 3, padding=1), PRIOR)
        self.bbox_pred = small_weights(nn.Conv2d(fpn_channels, 4, 3, padding=1))
        self.centerness = small_weights(nn.Conv2d(fpn_channels, 1, 3, padding=1))

    def forward(self, features: dict[str, Tensor], padded: tuple[int, int]) -> tuple[Points, Tensor, Tensor, Tensor]:
        """The A points of a batch of `padded` height and width, and what is told there.

        That is logits (B, A, K), distances in cells (B, A, 4) to the left, upper, right and lower side, and logits of
        how central the point is (B, A).
        """
        levels = list(self.fpn(features).values())
        logits = per_cell([self.cls_logits(self.classification_tower(level)) for level in levels], self.num_classes)
        hidden = [self.box_tower(level) for level in levels]
        distances = per_cell([F.relu(self.bbox_pred(level)) for level in hidden], 4)
        centerness = per_cell([self.centerness(level) for level in hidden], 1)[..., 0]
        points = Points.of(self.cells(padded, [(level.shape[-2], level.shape[-1]) for level in levels]))
        return points, logits, distances, centerness

    def loss(self, features: dict[str, Tensor], images: ImageSizes, targets: Targets) -> dict[str, Tensor]:
        """Three scalars, float32: `loss_classification`, `loss_box`, `loss_centerness`.

        Each is a sum over the cells divided by how many of them find a box, over all images of all processes. Cells in
        an image's padding take no part. All are zero, and connected to the graph, when no image is annotated.
        """
        boxes = at_least_one_box(targets.boxes, len(images), images.valid.device)
        points, logits, distances, centerness = self(features, images.padded)
        limits = self.limits.float()
        matches = assign_points(
            points.centres,
            self.center_radius * points.size,
            torch.stack((limits[points.level], limits[points.level + 1]), dim=1),
            points.inside(images.valid) & boxes.annotated[:, None],
            boxes,
        )
        positive = matches.positive
        wanted = chosen_boxes(boxes.boxes.float(), matches.index)
        labels = boxes.labels.gather(1, matches.index)
        found = boxes_around(points, distances)
        central = torch.where(positive, _centrality(distances_to(points, wanted)), 0.0)
        error = F.binary_cross_entropy_with_logits(centerness, central, reduction="none")
        count = mean_count(positive.sum().float())
        return {
            "loss_classification": focal_loss_sum(logits, labels, positive, matches.negative, *self.focal).sum()
            / count,
            "loss_box": self.box_loss_weight * overlap_loss_sum(self.box_loss, found, wanted, positive.float()) / count,
            "loss_centerness": torch.where(positive, error, 0.0).sum() / count,
        }

    def predict(self, features: dict[str, Tensor], images: ImageSizes) -> Sequence[Prediction]:
        """Detections of each image on the features' device; see `Detections`.

        A score is the geometric mean of the probability of the class and of the centrality of the cell. As in
        torchvision, cells in an image's padding are asked too; their boxes are cut to the image.
        """
        return select_detections(*self._entries(features, images), images, self.selection)

    def predict_padded(self, features: dict[str, Tensor], images: ImageSizes) -> PaddedDetections:
        return select_padded(*self._entries(features, images), images, self.selection)

    def _entries(
        self, features: dict[str, Tensor], images: ImageSizes
    ) -> tuple[Tensor, tuple[int, ...], Callable[[Tensor], Tensor]]:
        """Scores (B, A, K), entries a level, and what gives the boxes (B, M, 4) of entries (B, M)."""
        points, logits, distances, centerness = self(features, images.padded)
        scores = (logits.sigmoid() * centerness.sigmoid()[..., None]).sqrt()

        def boxes_at(index: Tensor) -> Tensor:
            return boxes_around(points.chosen(index), chosen_boxes(distances, index))

        return scores, points.counts, boxes_at

    def class_logits(
        self, features: dict[str, Tensor], images: ImageSizes, predictions: Sequence[Prediction]
    ) -> list[Tensor]:
        """(N, K) an image: of the cells whose boxes come nearest to these; see `logits_of_boxes`.

        Without the centrality of the cell, which is part of the score and says nothing of the class.
        """
        points, logits, distances, _ = self(features, images.padded)
        return logits_of_boxes(logits, boxes_around(points, distances), points.centres, images, predictions)


def _centrality(distances: Tensor) -> Tensor:
    """(...) 0 at the border of a box to 1 at its centre (FCOS, equation 3), of distances (..., 4) from inside it."""
    opposite = torch.stack((distances[..., :2], distances[..., 2:]))
    return (opposite.amin(dim=0) / opposite.amax(dim=0)).prod(dim=-1).clamp(min=0).sqrt()
