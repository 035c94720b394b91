"""Boxes against the anchors, or cells, that are to find them: by the very matchers of the heads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from heads import FCOS, YOLO, RetinaNet
from heads.anchors import Anchors
from heads.contract import BoxTargets
from heads.faster_rcnn import FasterRCNN
from heads.fpn import FPN
from heads.matcher import match
from heads.point_assigner import assign_points
from heads.points import Points
from tasks.checking.finding import Finding, Kind, Place, first
from tasks.checking.looks import spread
from tasks.checking.network import Network
from tasks.data.dataset import Dataset
from tasks.data.sample import SampleKey

IMAGES = 120
UNMATCHED = 0.3  # share of the boxes
GROUP = 16  # boxes that are matched at once

BOXES_UNMATCHED = Kind(
    "boxes-unmatched",
    "warning",
    f"More than {UNMATCHED:.0%} of the boxes of training images, resized as for training, overlap no anchor by the "
    "IoU below which an anchor is background; or no cell of the pyramid is assigned to them. Found by the head's own "
    "matcher, each box by itself.",
    "Such a box is learnt from its single best anchor at most, or from nothing. It will hardly be found.",
)


@dataclass(frozen=True, slots=True)
class Matched:
    """What became of some boxes.

    Attributes:
        sides: (N, 2) width and height in pixels of the batch.
        found: (N,) bool, something can learn to find it.
        places: of the images, and their boxes that nothing can find.
    """

    sides: Tensor
    found: Tensor
    places: list[Place]


def unmatched(network: Network) -> Iterator[Finding]:
    """Boxes that no anchor fits."""
    for name, head in network.model.heads.items():
        how = _how(head)
        if how is None:
            continue
        matched = match_boxes(network, head)
        lost = ~matched.found
        if len(lost) and float(lost.float().mean()) > UNMATCHED:
            sizes = matched.sides.prod(dim=1).sqrt()
            quantiles = [float(value) for value in torch.quantile(sizes, torch.tensor([0.02, 0.5, 0.98]))]
            yield Finding(
                BOXES_UNMATCHED,
                f"{int(lost.sum())} of {len(lost)} boxes ({float(lost.float().mean()):.0%}) {how}; after resizing they "
                f"measure {quantiles[0]:.0f} to {quantiles[2]:.0f} px (96 %), the median {quantiles[1]:.0f} px; the "
                f"head has {_has(head)}",
                f"less than {UNMATCHED:.0%}",
                f"set {_option(name, head)} to fit these sizes (tools/plan.py reckons them out), or resize to another "
                "data.short_side",
                first(matched.places),
            )


def match_boxes(network: Network, head: nn.Module) -> Matched:
    """Match the boxes of up to `IMAGES` training images, resized as for evaluation."""
    config, split = network.subject.config, network.subject.train
    dataset = Dataset(split, config.data, config.image, training=False)
    usable = {look.index for look in network.subject.looks.of("train")}
    clock = network.subject.clock.portion(0.1)
    sides, found, places = [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.bool)], []
    for number, index in enumerate(spread(len(split), IMAGES)):
        if number >= 8 and not clock.left():
            break
        if index not in usable or not len(split.objects(index).boxes):
            continue
        sample = dataset[SampleKey(index, 0)]
        kept = ~torch.from_numpy(sample.crowd)
        boxes = torch.from_numpy(sample.boxes)[kept]
        if not len(boxes):
            continue
        size = (sample.image.shape[0], sample.image.shape[1])
        own = torch.cat([_found(head, part, size, network.model.divisor) for part in torch.split(boxes, GROUP)])
        sides.append(boxes[:, 2:] - boxes[:, :2])
        found.append(own)
        if not own.all():
            factor = np.tile(np.array(sample.original_size[::-1]) / np.array(size[::-1]), 2)
            rows = (boxes[~own].numpy() * factor).tolist()
            places.append(Place("train", index, boxes=tuple((a, b, c, d) for a, b, c, d in rows)))
    places.sort(key=lambda place: -len(place.boxes))
    return Matched(torch.cat(sides), torch.cat(found), places)


@torch.no_grad()
def _found(head: nn.Module, boxes: Tensor, size: tuple[int, int], divisor: int) -> Tensor:
    """(N,) bool of boxes (N, 4) in an image of `size` (height, width)."""
    padded = (-(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor)
    # Each box by itself, as if it were alone in an image.
    alone = BoxTargets(
        boxes[:, None],
        torch.zeros(len(boxes), 1, dtype=torch.int64),
        torch.zeros(len(boxes), 1, dtype=torch.bool),
        torch.ones(len(boxes), dtype=torch.bool),
    )
    valid = torch.tensor([size]).expand(len(boxes), 2)
    if isinstance(head, FasterRCNN | RetinaNet):
        generator, iou = (
            (head.rpn.anchors, head.rpn.settings.negative_iou)
            if isinstance(head, FasterRCNN)
            else (head.anchors, head.thresholds[1])
        )
        anchors: Anchors = generator(padded, _grids(head.fpn, padded))
        matches = match(anchors.boxes, anchors.inside(valid), alone, iou, iou, low_quality=False)
        return matches.positive.any(dim=1)
    assert isinstance(head, FCOS | YOLO)
    points = Points.of(head.cells(padded, _grids(head.fpn, padded)))
    inside = points.inside(valid)
    if isinstance(head, FCOS):
        limits = head.limits.float()
        between = torch.stack((limits[points.level], limits[points.level + 1]), dim=1)
        matches = assign_points(points.centres, head.center_radius * points.size, between, inside, alone)
        return matches.positive.any(dim=1)
    # Which cells a YOLO takes depends on what they predict; only those with their middle in the box are asked.
    within = (points.centres > boxes[:, None, :2]) & (points.centres < boxes[:, None, 2:])
    return (within.all(dim=-1) & inside).any(dim=1)


def _grids(fpn: FPN, padded: tuple[int, int]) -> Sequence[tuple[int, int]]:
    return [(-(-padded[0] // level.stride), -(-padded[1] // level.stride)) for level in fpn.features.values()]


def _how(head: nn.Module) -> str | None:
    if isinstance(head, FasterRCNN):
        return f"overlap no anchor by an IoU of {head.rpn.settings.negative_iou:g}"
    if isinstance(head, RetinaNet):
        return f"overlap no anchor by an IoU of {head.thresholds[1]:g}"
    return "are assigned to no cell" if isinstance(head, FCOS | YOLO) else None


def _has(head: nn.Module) -> str:
    if isinstance(head, FasterRCNN | RetinaNet):
        base = (head.rpn.anchors if isinstance(head, FasterRCNN) else head.anchors).base
        sides = (base[..., 2:] - base[..., :2]).prod(dim=-1).sqrt()
        return f"anchors of {float(sides.min()):.0f} to {float(sides.max()):.0f} px"
    assert isinstance(head, FCOS | YOLO)
    return f"cells of {', '.join(str(level.stride) for level in head.fpn.features.values())} px"


def _option(name: str, head: nn.Module) -> str:
    if isinstance(head, FasterRCNN | RetinaNet):
        return f"heads.{name}.anchor_sizes and aspect_ratios"
    return f"heads.{name}.scale_limits" if isinstance(head, FCOS) else "the size of the images"
