"""The mask branch of Mask R-CNN (https://arxiv.org/abs/1703.06870, section 3, figure 4 right)."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from heads.contract import BoxTargets, Detections, ImageSizes, Outlines, PaddedDetections
from heads.roi_align import Pooling, roi_align
from heads.roi_head import RoISamples, in_batch_pixels

# Pixels of outlines that are unpacked at once: 64 MiB in float32, however many objects there are.
MAX_PIXELS = 1 << 24


class MaskHead(nn.Module):
    """3x3 convolutions on the pooled features, a transposed one that doubles their sides, and a logit for each class.

    Args:
        channels: C of every level.
        strides: of the levels that are pooled from.
        num_classes: K.
        convolutions: how many.
        hidden: their channels.
        pooling: of the features; masks have twice its size.
        class_agnostic: one mask for all classes.
    """

    def __init__(
        self,
        channels: int,
        strides: Sequence[int],
        num_classes: int,
        convolutions: int,
        hidden: int,
        pooling: Pooling,
        class_agnostic: bool,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.pooling = pooling
        self.class_agnostic = class_agnostic
        widths = [channels, *[hidden] * convolutions]
        self.convs = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
        self.deconv = nn.ConvTranspose2d(widths[-1], hidden, 2, stride=2)
        self.logits = nn.Conv2d(hidden, 1 if class_agnostic else num_classes, 1)
        for layer in (*self.convs, self.deconv):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        # Every pixel starts undecided, as in Detectron2.
        nn.init.normal_(self.logits.weight, std=0.001)
        assert self.logits.bias is not None
        nn.init.zeros_(self.logits.bias)

    def forward(self, levels: Sequence[Tensor], boxes: Tensor, image_index: Tensor, labels: Tensor) -> Tensor:
        """Boxes (R, 4) of images (R,) and classes (R,), 0 .. K-1 -> logits (R, M, M) of these classes, float32."""
        hidden = roi_align(levels, self.strides, boxes, image_index, self.pooling)
        for convolution in self.convs:
            hidden = F.relu(convolution(hidden))
        logits: Tensor = self.logits(F.relu(self.deconv(hidden)))
        if self.class_agnostic:
            return logits[:, 0].float()
        rows = torch.arange(labels.shape[0], device=labels.device)
        return logits[rows, labels].float()

    def loss_sum(self, levels: Sequence[Tensor], samples: RoISamples, targets: BoxTargets) -> tuple[Tensor, Tensor]:
        """Cross entropy of the pixels of a mask, on average, summed over samples; and their number. Both (), float32.

        Of the samples that stand for an object whose outline is known, and in the mask of its class alone. Zero, and
        connected to the graph, when there is none.
        """
        used = samples.labels > 0
        if targets.outlines is None:
            used = torch.zeros_like(used)
        else:
            used = used & targets.outlines.known.gather(1, samples.matched)
        # A branch this deep on all samples would cost more than waiting for how many it is needed on.
        image_index, sample = torch.where(used)
        boxes = samples.boxes[image_index, sample]
        logits = self(levels, boxes, image_index, samples.labels[image_index, sample] - 1)
        if targets.outlines is None:
            return logits.sum(), logits.new_zeros(())
        objects = image_index * targets.labels.shape[1] + samples.matched[image_index, sample]
        wanted = crop_outlines(targets.outlines, objects, boxes, logits.shape[-1])
        loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / logits.shape[-1] ** 2
        return loss, used.sum().float()

    @torch.no_grad()
    def complete(self, levels: Sequence[Tensor], found: Sequence[Detections], images: ImageSizes) -> list[Detections]:
        """The same detections with masks."""
        boxes, image_index = in_batch_pixels(found, images)
        masks = self(levels, boxes, image_index, torch.cat([one.labels for one in found])).sigmoid()
        parts = masks.split_with_sizes([len(one.boxes) for one in found])
        return [
            replace(one, masks=own, image_size=(height, width))
            for one, own, (height, width) in zip(found, parts, images.original.tolist(), strict=True)
        ]

    @torch.no_grad()
    def complete_padded(self, levels: Sequence[Tensor], found: PaddedDetections) -> PaddedDetections:
        """The same of padded detections."""
        images, count = found.labels.shape
        index = torch.arange(images, device=found.labels.device)[:, None].expand(images, count).flatten()
        masks = self(levels, found.boxes.flatten(0, 1), index, found.labels.flatten()).sigmoid()
        return replace(found, masks=masks.unflatten(0, (images, count)))


@torch.no_grad()
def crop_outlines(
    outlines: Outlines, objects: Tensor, boxes: Tensor, size: int, max_pixels: int = MAX_PIXELS
) -> Tensor:
    """What a mask of `size` cells should be in each box: the share of every cell that the object covers, by RoIAlign.

    Outlines are unpacked in chunks of objects, so that memory stays bounded.

    Args:
        outlines: of B images, N objects each.
        objects: (R,) int64, image * N + object, which one belongs in each box.
        boxes: (R, 4) x1 y1 x2 y2.
        size: M.
        max_pixels: largest number of pixels in a chunk, unless one object has more.

    Returns:
        (R, M, M) float32, 0 .. 1.
    """
    bits = outlines.bits.flatten(0, 1)
    used, outline_of = torch.unique(objects, return_inverse=True)
    chunk = max(1, max_pixels // max(1, 8 * bits.shape[1] * bits.shape[2]))
    cropped = boxes.new_zeros(len(boxes), size, size, dtype=torch.float32)
    for start in range(0, len(used), chunk):
        masks = unpack_bits(bits[used[start : start + chunk]]).float()
        (rows,) = torch.where((outline_of >= start) & (outline_of < start + chunk))
        rois = torch.cat(((outline_of[rows] - start)[:, None].float(), boxes[rows].float()), dim=1)
        cropped[rows] = torchvision.ops.roi_align(masks[:, None], rois, (size, size), 1.0)[:, 0]
    return cropped


def unpack_bits(bits: Tensor) -> Tensor:
    """(..., W) uint8 of 0 and 1 from (..., W / 8), the inverse of `numpy.packbits` along the last axis."""
    shifts = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    return ((bits[..., None] >> shifts) & 1).flatten(-2)
