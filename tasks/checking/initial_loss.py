"""What the losses are worth before anything is learnt, by head and loss; from the definitions of the losses."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from heads import FCOS, YOLO, Classification, RetinaNet, SegmentationHead
from heads.box_loss import BoxLoss
from heads.cascade_rcnn import CascadeRCNN
from heads.dense_outputs import PRIOR
from heads.faster_rcnn import FasterRCNN
from tasks.checking.finding import Finding, Kind
from tasks.checking.network import Network
from tasks.data.sample import Batch

LOOSE = 3.0  # times; how far a loss may be above its expected value
PLAIN = (1.0, 1.0, 1.0, 1.0)  # weights of offsets that are not scaled
SHIFT, LOG_SCALE = 0.6, 3.0  # offsets of a box from its anchor, at most: of centres, of the logarithms of sides
OVERLAP = 3.0  # an overlap loss at most: GIoU lies between -1 and 1, CIoU goes a little lower

LOSS_AT_START = Kind(
    "loss-at-start",
    "warning",
    f"A loss of the untrained head is more than {LOOSE:g} times what it is worth when all classes are equally likely "
    "(ln K and the like), or out of the bounds that its definition gives; see below.",
    "Inputs are not normalised, targets are on another scale, or the head begins badly.",
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a loss should be at the start.

    Attributes:
        high: at most.
        because: where that comes from.
    """

    high: float
    because: str


def around(value: float, because: str, factor: float = 1.0) -> Expected:
    """A value that the loss should be near to, up to `LOOSE` times; weights may know something already."""
    return Expected(LOOSE * factor * value, f"{because} = {factor * value:.3g}")


def up_to(value: float, because: str) -> Expected:
    """A bound."""
    return Expected(value, because)


def at_start(network: Network) -> Iterator[Finding]:
    """Losses that are not what an untrained head has."""
    if network.batch is None or network.start.problem:
        return
    for name, head in network.model.heads.items():
        expected = expected_losses(head, network.batch)
        for loss, value in network.start.losses.items():
            own, _, kind = loss.partition("/")
            bounds = expected.get(kind) if own == name else None
            if bounds is not None and value > bounds.high:
                yield Finding(
                    LOSS_AT_START,
                    f"{loss} is {value:.4g} on {len(network.batch)} images, before the first step",
                    f"at most {bounds.high:.3g}: {bounds.because}",
                    "look at what enters the network (image.*), at the scale of the targets, and at the weights",
                )


def expected_losses(head: nn.Module, batch: Batch) -> dict[str, Expected]:
    """Bounds of each loss of a head by name; empty for a head that is not ours."""
    if isinstance(head, Classification):
        return {f"loss_{head.loss_kind}": _labels(head)}
    if isinstance(head, SegmentationHead):
        return _masks(head, batch)
    if isinstance(head, FasterRCNN):
        return _two_stages(head)
    if isinstance(head, RetinaNet):
        cells = head.anchors.per_cell * head.num_classes * _cells(head, batch)
        return {
            "loss_classification": _focal(head.focal, cells, batch),
            "loss_box": _times(_offsets(head.box_loss, PLAIN), head.box_loss_weight),
        }
    if isinstance(head, FCOS):
        return {
            "loss_classification": _focal(head.focal, head.num_classes * _cells(head, batch), batch),
            "loss_box": up_to(OVERLAP * head.box_loss_weight, f"an overlap loss of {OVERLAP:g} times its weight"),
            "loss_centerness": around(math.log(2), "ln 2 of a probability of one half"),
        }
    return _yolo(head, batch) if isinstance(head, YOLO) else {}


def _labels(head: Classification) -> Expected:
    classes = head.linear.out_features
    weight = float(head.class_weights.max())
    match head.target, head.loss_kind:
        case _, "cross_entropy":
            return around(math.log(classes), f"ln {classes} of {classes} classes", weight)
        case "single", "focal":
            value = (1 - 1 / classes) ** head.gamma * math.log(classes)
            return around(value, f"(1 - 1/{classes})^{head.gamma:g} ln {classes}", weight)
        case _, "focal":
            return around(0.5**head.gamma * math.log(2), f"2^-{head.gamma:g} ln 2", weight)
        case _, "bce":
            return around(math.log(2), "ln 2 of a probability of one half", weight)
        case _, "coral":
            ranks = len(head.thresholds)
            return around(ranks * math.log(2), f"{ranks} ln 2 of {ranks} thresholds", 2 * weight)
        case _, "mse":
            return around(1.0, "the variance of numbers that are scaled to a deviation of 1")
    return around(0.5, "half the variance of numbers that are scaled to a deviation of 1, at most")


def _masks(head: SegmentationHead, batch: Batch) -> dict[str, Expected]:
    channels = head.channels
    exclusive = head.target == "multiclass"
    entropy = math.log(channels) if exclusive else math.log(2)
    because = f"ln {channels} of {channels} channels" if exclusive else "ln 2 of a probability of one half"
    weights = head.losses.class_weights
    heavy = 1.0 if weights is None or exclusive else max(1.0, float(weights.max()))
    right = 1 / channels if exclusive else 0.5
    focus = (1 - right) ** head.losses.focal_gamma
    bounds = {
        "cross_entropy": around(entropy, because, heavy),
        "focal": around(focus * entropy, f"{focus:.3g} x {because}", heavy),
        "dice": up_to(1.0, "one minus an overlap"),
        "tversky": up_to(1.0, "one minus an overlap"),
        "boundary": up_to(1.0, "one minus a share"),
        "lovasz": up_to(1.0 if exclusive else 4.0, "an error of 1 a pixel" if exclusive else "a margin of 1 a pixel"),
    }
    found: dict[str, Expected] = {}
    for name, weight in head.losses.weights.items():
        found[name] = _times(bounds[name], weight)
        found[f"aux_{name}"] = _times(bounds[name], weight * head.auxiliary_weight)
    return found


def _two_stages(head: FasterRCNN) -> dict[str, Expected]:
    classes = head.roi_head.cls_score.out_features
    first = head.rpn.settings
    found = {
        "loss_rpn_objectness": around(math.log(2), "ln 2 of a probability of one half"),
        "loss_rpn_box": _times(_offsets(first.box_loss, PLAIN), first.positive_fraction),
    }
    stages = [(head.roi_head, 1.0)]
    if isinstance(head, CascadeRCNN):
        stages = list(zip(head.stages, head.stage_loss_weights, strict=True))
    for number, (stage, weight) in enumerate(stages, 1):
        name = f"loss_roi{number}" if number > 1 else "loss_roi"
        found[f"{name}_classification"] = around(math.log(classes), f"ln {classes} of {classes} classes", weight)
        settings = stage.settings
        share = settings.positive_fraction if stage is head.roi_head else 1.0
        offsets = _offsets(settings.box_loss, settings.offset_weights)
        found[f"{name}_box"] = _times(offsets, weight * settings.box_loss_weight * share)
    found["loss_mask"] = around(math.log(2), "ln 2 of a probability of one half")
    return found


def _focal(focal: tuple[float, float], outputs: int, batch: Batch) -> Expected:
    """Focal loss at the prior of all classes, an object, of `outputs` logits an image."""
    alpha, gamma = focal
    objects = _objects(batch)
    there = alpha * (1 - PRIOR) ** gamma * -math.log(PRIOR)
    absent = (1 - alpha) * PRIOR**gamma * -math.log(1 - PRIOR) * outputs / objects
    return around(
        there + absent,
        f"-{alpha:g} x {1 - PRIOR:g}^{gamma:g} ln {PRIOR:g} of an object and {absent:.2g} of {outputs} outputs of "
        "background for it",
    )


def _yolo(head: YOLO, batch: Batch) -> dict[str, Expected]:
    bins = head.bbox_pred.out_channels // 4
    outputs = head.num_classes * _cells(head, batch) * len(batch)
    background = PRIOR**head.focal_beta * -math.log(1 - PRIOR) * outputs
    return {
        "loss_classification": around(
            -math.log(PRIOR) + background, f"-ln {PRIOR:g} of an object and {background:.2g} of background"
        ),
        "loss_box": up_to(OVERLAP * head.box_loss_weight, f"an overlap loss of {OVERLAP:g} times its weight"),
        "loss_distribution": around(math.log(bins), f"ln {bins} of {bins} bins", head.distribution_loss_weight),
    }


def _offsets(kind: BoxLoss, weights: tuple[float, float, float, float]) -> Expected:
    """Of one object."""
    if kind == "giou":
        return up_to(OVERLAP, f"an overlap loss of {OVERLAP:g}")
    most = sum(weight * limit for weight, limit in zip(weights, (SHIFT, SHIFT, LOG_SCALE, LOG_SCALE), strict=True))
    return up_to(most, f"offsets of {SHIFT:g} of the sides and factors of e^{LOG_SCALE:g} on them, times their weights")


def _times(expected: Expected, factor: float) -> Expected:
    scaled = expected.because if factor == 1 else f"{factor:g} x ({expected.because})"
    return Expected(expected.high * factor, scaled)


def _cells(head: RetinaNet | FCOS | YOLO, batch: Batch) -> int:
    """Cells of all levels of an image."""
    strides = [level.stride for level in head.fpn.features.values()]
    height, width = batch.sizes.padded
    return sum(-(-height // stride) * -(-width // stride) for stride in strides)


def _objects(batch: Batch) -> int:
    """Annotated objects of the image that has the fewest, at least one."""
    boxes = batch.targets.boxes
    if boxes is None:
        return 1
    counts = ((boxes.labels >= 0) & ~boxes.crowd).sum(dim=1)
    return max(1, int(counts.min()))
