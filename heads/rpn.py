"""Region Proposal Network (Faster R-CNN, https://arxiv.org/abs/1506.01497, section 3.1), shared over FPN levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms

from heads.anchors import AnchorGenerator, AnchorPlaces, Anchors
from heads.box_coder import BoxCoder
from heads.box_loss import BoxLoss, box_loss_sum
from heads.box_targets import chosen_boxes
from heads.contract import BoxTargets, ImageSizes
from heads.dense_outputs import per_cell
from heads.matcher import match
from heads.padded_selection import at_most, survivors
from heads.sampled_convolution import convolve_cells, linear_at_cells
from heads.sampling import priorities, subsample

SAMPLING_PURPOSE = 1
# Proposals with a shorter side, in pixels, are dropped: nothing can be pooled from them or encoded against them.
MIN_SIDE = 1e-3


@dataclass(frozen=True, slots=True)
class RPNOutput:
    """What the network says about every anchor.

    Attributes:
        anchors: the A anchors of the batch.
        logits: (B, A) float32, that the anchor holds an object.
        deltas: (B, A, 4) float32, offsets from the anchor to the object.
    """

    anchors: Anchors
    logits: Tensor
    deltas: Tensor


@dataclass(frozen=True, slots=True)
class Proposals:
    """Boxes that may hold an object, best first, padded to a fixed number P.

    Attributes:
        boxes: (B, P, 4) float32, x1 y1 x2 y2 in pixels of the padded batch, inside each image; zeros where padded.
        valid: (B, P) bool, False where padded.
    """

    boxes: Tensor
    valid: Tensor

    def flat(self) -> tuple[Tensor, Tensor]:
        """The valid boxes (R, 4), one image after another, and the image (R,) of each."""
        image_index, _ = torch.where(self.valid)
        return self.boxes[self.valid], image_index

    def all_of_them(self) -> tuple[Tensor, Tensor]:
        """All boxes (B * P, 4), padding included, and the image (B * P,) of each."""
        images, count = self.valid.shape
        index = torch.arange(images, device=self.boxes.device)
        return self.boxes.flatten(0, 1), index[:, None].expand(images, count).flatten()


@dataclass(frozen=True, slots=True)
class RPNSettings:
    """How anchors are matched, sampled and scored in training; see `FasterRCNN`."""

    positive_iou: float
    negative_iou: float
    samples: int
    positive_fraction: float
    nms_iou: float
    box_loss: BoxLoss


class RPN(nn.Module):
    """A 3x3 convolution, then one logit and four offsets for each anchor of each cell.

    Args:
        channels: of every level.
        anchor_sizes: square root of the anchors' area in pixels, one a level.
        aspect_ratios: height / width.
        strides: of the levels, for anchors that are not rounded; see `AnchorGenerator`.
    """

    def __init__(
        self,
        channels: int,
        anchor_sizes: Sequence[float],
        aspect_ratios: Sequence[float],
        settings: RPNSettings,
        strides: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.coder = BoxCoder()
        self.anchors = AnchorGenerator(anchor_sizes, aspect_ratios, strides)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.cls_logits = nn.Conv2d(channels, self.anchors.per_cell, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * self.anchors.per_cell, 1)
        for layer in (self.conv, self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, levels: Sequence[Tensor], padded: tuple[int, int]) -> RPNOutput:
        """L maps (B, C, H, W) of a batch of `padded` height and width, finest first."""
        hidden = [F.relu(self.conv(level)) for level in levels]
        logits = per_cell([self.cls_logits(level) for level in hidden], 1)[..., 0]
        deltas = per_cell([self.bbox_pred(level) for level in hidden], 4)
        anchors = self.anchors(padded, [(level.shape[-2], level.shape[-1]) for level in levels])
        return RPNOutput(anchors, logits, deltas)

    @torch.no_grad()
    def propose(self, output: RPNOutput, images: ImageSizes, pre_nms: int, post_nms: int) -> Proposals:
        """The best `post_nms` boxes an image, after suppression within each level of its best `pre_nms`."""
        boxes, scores, levels, large = self._candidates(output, images, pre_nms)
        proposals = boxes.new_zeros(len(images), post_nms, 4)
        valid = large.new_zeros(len(images), post_nms)
        for image in range(len(images)):
            kept = large[image]
            candidates = boxes[image][kept]
            best = batched_nms(candidates, scores[image][kept], levels[kept], self.settings.nms_iou)[:post_nms]
            proposals[image, : len(best)] = candidates[best]
            valid[image, : len(best)] = True
        return Proposals(proposals, valid)

    @torch.no_grad()
    def propose_padded(self, output: RPNOutput, images: ImageSizes, pre_nms: int, post_nms: int) -> Proposals:
        """The same as a graph without loops over images, for export; fewer than `post_nms` where there are no more."""
        boxes, scores, levels, large = self._candidates(output, images, pre_nms)
        left = survivors(boxes, scores, levels.expand_as(scores), large, self.settings.nms_iou)
        best = torch.where(left, scores, -torch.inf).topk(at_most(post_nms, scores.shape[1]), dim=1)
        valid = best.values > -torch.inf
        chosen = boxes.gather(1, best.indices[..., None].expand(-1, -1, 4))
        return Proposals(torch.where(valid[..., None], chosen, 0.0), valid)

    def _candidates(self, output: RPNOutput, images: ImageSizes, pre_nms: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes (B, M, 4) of the best anchors of each level, their scores (B, M), the level (M,) of each, and whether
        it has an area (B, M).
        """
        index, level_of, start = [], [], 0
        for number, logits in enumerate(output.logits.split_with_sizes(output.anchors.counts, dim=1)):
            best = logits.topk(at_most(pre_nms, logits.shape[1]), dim=1).indices
            index.append(best + start)
            level_of.append(torch.full_like(best[0], number))
            start += logits.shape[1]
        chosen, levels = torch.cat(index, dim=1), torch.cat(level_of)
        scores = output.logits.gather(1, chosen)
        deltas = chosen_boxes(output.deltas, chosen)
        boxes = clip(self.coder.decode(deltas, output.anchors.boxes[chosen]), images.valid)
        large = ((boxes[..., 2:] - boxes[..., :2]) >= MIN_SIDE).all(dim=-1)
        return boxes, scores, levels, large

    def loss_sums(
        self, levels: Sequence[Tensor], anchors: Anchors, images: ImageSizes, seeds: Tensor, targets: BoxTargets
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Objectness loss and box loss, summed over the sampled anchors, and how many were sampled; all (), float32.

        Anchors centred in an image's padding are never sampled, so that a sample does not depend on the batch. `seeds`
        is (B,) int64.
        """
        s = self.settings
        inside = anchors.inside(images.valid) & targets.annotated[:, None]
        matches = match(anchors.boxes, inside, targets, s.positive_iou, s.negative_iou, low_quality=True)
        priority = priorities(seeds, SAMPLING_PURPOSE, anchors.elements)
        index, sampled = subsample(matches.positive, matches.negative, priority, s.samples, s.positive_fraction)

        positive = matches.positive.gather(1, index) & sampled
        logits, deltas = self._at(levels, anchors.places(index))
        objectness = F.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
        target = matches.index.gather(1, index)
        boxes = chosen_boxes(targets.boxes, target)
        box = box_loss_sum(s.box_loss, self.coder, deltas, anchors.boxes[index], boxes, positive)
        return torch.where(sampled, objectness, 0.0).sum(), box, sampled.sum().float()

    def _at(self, levels: Sequence[Tensor], places: AnchorPlaces) -> tuple[Tensor, Tensor]:
        """What `forward` says of some anchors: logits (B, S) and offsets (B, S, 4), float32."""
        hidden = F.relu(convolve_cells(self.conv, levels, places.level, places.row, places.column))
        ratio = places.ratio[..., None]
        logits = linear_at_cells(self.cls_logits, hidden).gather(2, ratio)[..., 0]
        deltas = linear_at_cells(self.bbox_pred, hidden).reshape(*ratio.shape[:2], -1, 4)
        return logits.float(), deltas.gather(2, ratio[..., None].expand(-1, -1, -1, 4))[:, :, 0].float()


def clip(boxes: Tensor, valid: Tensor) -> Tensor:
    """Boxes (B, N, 4) cut to the images' sizes (B, 2), height and width."""
    limit = valid.flip(1).repeat(1, 2)[:, None].to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limit)
