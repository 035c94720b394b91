"""Second stage of Faster R-CNN: classifies proposals and refines them (Fast R-CNN, https://arxiv.org/abs/1504.08083)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heads.box_coder import BoxCoder
from heads.box_loss import BoxLoss, box_loss_sum
from heads.contract import BoxTargets, Detections, ImageSizes, PaddedDetections
from heads.matcher import match
from heads.padded_selection import best_survivors
from heads.roi_align import Pooling, roi_align
from heads.rpn import Proposals, clip
from heads.sampling import priorities, subsample
from heads.suppression import best_detections, large_enough

SAMPLING_PURPOSE = 2
# Fast R-CNN divides offsets by their usual standard deviations, 0.1 and 0.2.
OFFSET_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


@dataclass(frozen=True, slots=True)
class RoISettings:
    """How proposals are matched, sampled and scored, and detections chosen; see `FasterRCNN`."""

    positive_iou: float
    samples: int
    positive_fraction: float
    box_loss: BoxLoss
    box_loss_weight: float
    class_agnostic: bool
    score_threshold: float
    nms_iou: float
    detections_per_image: int
    offset_weights: tuple[float, float, float, float] = OFFSET_WEIGHTS


@dataclass(frozen=True, slots=True)
class RoISamples:
    """Proposals drawn for training, S an image.

    Attributes:
        boxes: (B, S, 4) float32.
        labels: (B, S) int64, 0 for background, 1 + class otherwise.
        matched: (B, S) int64, which of the image's targets it stands for where labels > 0.
        targets: (B, S, 4) float32, the annotated box where labels > 0.
        valid: (B, S) bool, False where an image had too few proposals; labels are 0 there.
    """

    boxes: Tensor
    labels: Tensor
    matched: Tensor
    targets: Tensor
    valid: Tensor

    def flat(self) -> tuple[Tensor, Tensor]:
        """All boxes (B * S, 4), and the image (B * S,) of each."""
        images, count = self.labels.shape
        index = torch.arange(images, device=self.boxes.device)
        return self.boxes.flatten(0, 1), index.repeat_interleave(count, output_size=images * count)


class RoIHead(nn.Module):
    """Two fully connected layers on the pooled features, then K + 1 logits (background first) and offsets.

    Args:
        channels: C of every level.
        strides: of the levels that are pooled from.
        num_classes: K.
        hidden: width of the fully connected layers.
    """

    def __init__(
        self,
        channels: int,
        strides: Sequence[int],
        num_classes: int,
        hidden: int,
        pooling: Pooling,
        settings: RoISettings,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.pooling = pooling
        self.settings = settings
        self.coder = BoxCoder(settings.offset_weights)
        self.fc6 = nn.Linear(channels * pooling.size**2, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.cls_score = nn.Linear(hidden, num_classes + 1)
        self.bbox_pred = nn.Linear(hidden, 4 if settings.class_agnostic else 4 * (num_classes + 1))
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        # Fast R-CNN, section 3.1.
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, levels: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (R, 4) of images (R,) -> logits (R, K + 1) and offsets (R, K + 1 or 1, 4), float32."""
        pooled = roi_align(levels, self.strides, boxes, image_index, self.pooling)
        hidden = F.relu(self.fc7(F.relu(self.fc6(pooled.flatten(1)))))
        return self.cls_score(hidden).float(), self.bbox_pred(hidden).float().unflatten(1, (-1, 4))

    @torch.no_grad()
    def sample(self, proposals: Proposals, seeds: Tensor, targets: BoxTargets) -> RoISamples:
        """Draw proposals for training; the annotated boxes are among those drawn from.

        Args:
            seeds: (B,) int64.
            targets: N at least 1.
        """
        s = self.settings
        # Proposals first, and always as many: so an annotated box has the same number in every batch.
        boxes = torch.cat((proposals.boxes, targets.boxes.float()), dim=1)
        candidates = torch.cat((proposals.valid, (targets.labels >= 0) & ~targets.crowd), dim=1)
        candidates &= targets.annotated[:, None]
        matches = match(boxes, candidates, targets, s.positive_iou, s.positive_iou, low_quality=False)
        priority = priorities(seeds, SAMPLING_PURPOSE, torch.arange(boxes.shape[1], device=boxes.device))
        index, valid = subsample(matches.positive, matches.negative, priority, s.samples, s.positive_fraction)
        positive = matches.positive.gather(1, index) & valid
        drawn = boxes.gather(1, index[..., None].expand(-1, -1, 4))
        return _samples(drawn, positive, matches.index.gather(1, index), valid, targets)

    @torch.no_grad()
    def label(self, boxes: Tensor, candidates: Tensor, targets: BoxTargets) -> RoISamples:
        """All of some boxes (B, S, 4) as samples; those that are no candidates (B, S), or in a crowd, are not valid."""
        iou = self.settings.positive_iou
        matches = match(boxes, candidates, targets, iou, iou, low_quality=False)
        positive = matches.positive & candidates
        return _samples(boxes, positive, matches.index, positive | matches.negative, targets)

    def loss_sums(self, logits: Tensor, deltas: Tensor, samples: RoISamples) -> tuple[Tensor, Tensor, Tensor]:
        """Classification loss and box loss, summed over the samples, and how many there are; all (), float32.

        Args:
            logits: of the samples, flat, as from `forward`.
            deltas: of them.
            samples: what they should be.
        """
        labels, valid = samples.labels.flatten(), samples.valid.flatten()
        classification = F.cross_entropy(logits, labels, reduction="none")
        if not self.settings.class_agnostic:
            deltas = deltas.gather(1, labels[:, None, None].expand(-1, 1, 4))
        boxes, targets = samples.boxes.flatten(0, 1), samples.targets.flatten(0, 1)
        box = box_loss_sum(self.settings.box_loss, self.coder, deltas[:, 0], boxes, targets, labels > 0)
        return (
            torch.where(valid, classification, 0.0).sum(),
            self.settings.box_loss_weight * box,
            valid.sum().float(),
        )

    @torch.no_grad()
    def detect(
        self, levels: Sequence[Tensor], boxes: Tensor, image_index: Tensor, images: ImageSizes
    ) -> tuple[Tensor, Tensor]:
        """Boxes (R, 4) of images (R,), refined (R, K or 1, 4), and their scores (R, K + 1), background first."""
        logits, deltas = self(levels, boxes, image_index)
        return self.refine(boxes, deltas, images.valid[image_index]), logits.softmax(dim=-1)

    def refine(self, boxes: Tensor, deltas: Tensor, valid: Tensor) -> Tensor:
        """Boxes (R, K or 1, 4) inside their images, of sizes `valid` (R, 2), from boxes (R, 4) and their offsets."""
        if not self.settings.class_agnostic:
            deltas = deltas[:, 1:]
        return clip(self.coder.decode(deltas, boxes[:, None]), valid)

    def choose(self, refined: Tensor, scores: Tensor, counts: Tensor, images: ImageSizes) -> list[Detections]:
        """The best of all boxes after suppression within each class.

        Args:
            refined: (R, K or 1, 4), as from `refine`, in the order of the images.
            scores: (R, K + 1), background first.
            counts: (B,) how many are each image's.
            images: their sizes.
        """
        scores = scores[:, 1:]
        refined = refined.expand(*scores.shape, 4)
        sizes = counts.tolist()
        parts = zip(refined.split_with_sizes(sizes), scores.split_with_sizes(sizes), images.to_original, strict=True)
        return [self._best(*part) for part in parts]

    def choose_padded(self, refined: Tensor, scores: Tensor, valid: Tensor) -> PaddedDetections:
        """The same of P boxes an image, some of which are no proposals, for export.

        Args:
            refined: (B * P, K or 1, 4).
            scores: (B * P, K + 1), background first.
            valid: (B, P) bool, the proposals.
        """
        s = self.settings
        batch, count = valid.shape
        scores = scores[:, 1:]
        classes = scores.shape[1]
        boxes = refined.expand(-1, classes, 4)
        kept = (scores > s.score_threshold) & large_enough(boxes) & valid.reshape(-1, 1)
        labels = torch.arange(classes, device=scores.device).expand(batch, count, classes)
        return best_survivors(
            boxes.reshape(batch, count * classes, 4),
            scores.reshape(batch, count * classes),
            labels.reshape(batch, count * classes),
            kept.reshape(batch, count * classes),
            s.nms_iou,
            s.detections_per_image,
        )

    def _best(self, boxes: Tensor, scores: Tensor, ratio: Tensor) -> Detections:
        """The detections of one image from boxes (R, K, 4), scores (R, K); `ratio` (4,) leads to its original size."""
        s = self.settings
        kept, labels = torch.where((scores > s.score_threshold) & large_enough(boxes))
        boxes, scores = boxes[kept, labels], scores[kept, labels]
        return best_detections(boxes, scores, labels, ratio, s.nms_iou, s.detections_per_image)


def _samples(boxes: Tensor, positive: Tensor, matched: Tensor, valid: Tensor, targets: BoxTargets) -> RoISamples:
    return RoISamples(
        boxes=boxes,
        labels=torch.where(positive, targets.labels.gather(1, matched) + 1, 0),
        matched=matched,
        targets=targets.boxes.gather(1, matched[..., None].expand(-1, -1, 4)),
        valid=valid,
    )


def in_batch_pixels(found: Sequence[Detections], images: ImageSizes) -> tuple[Tensor, Tensor]:
    """All boxes (R, 4) in pixels of the padded batch, one image after another, and the image (R,) of each."""
    device = images.valid.device
    boxes = [one.boxes / ratio for one, ratio in zip(found, images.to_original, strict=True)]
    counts = torch.tensor([len(own) for own in boxes], device=device)
    return torch.cat(boxes), torch.arange(len(boxes), device=device).repeat_interleave(counts)
