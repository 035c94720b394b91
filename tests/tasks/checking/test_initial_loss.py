"""What is expected of the losses of an untrained head is what they are, for every registered head and loss."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from heads import BoxTargets, Classification, Head, ImageSizes, SegmentationHead, Targets, UNet, heads
from heads.testing_probe import CLASSES, LEVELS, Probe
from tasks.checking.initial_loss import expected_losses
from tasks.data.sample import Batch
from tests.conftest import SMALL_DETECTOR

OWN = ("cascade_mask_rcnn", "cascade_rcnn", "faster_rcnn", "fcos", "mask_rcnn", "retinanet", "yolo")
LOSSES = {"cross_entropy": 1.0, "dice": 0.5, "focal": 2.0, "tversky": 1.0, "lovasz": 1.0, "boundary": 1.0}
TWO_STAGES = {key: value for key, value in SMALL_DETECTOR.items() if key != "anchor_sizes"}
SMALL = {name: TWO_STAGES if "rcnn" in name else {"fpn_channels": 32} for name in OWN}
CASES: dict[str, tuple[Callable[..., Head], int]] = {
    name: (partial(heads.build, name, **options), 1) for name, options in SMALL.items()
}
CASES |= {
    "retinanet giou": (partial(heads.build, "retinanet", box_loss="giou", fpn_channels=32), 1),
    "faster_rcnn giou": (partial(heads.build, "faster_rcnn", box_loss="giou", box_loss_weight=10.0, **TWO_STAGES), 1),
    "masks": (partial(UNet, losses=LOSSES), 1),
    "masks with an auxiliary head": (partial(UNet, losses=LOSSES, auxiliary_weight=0.4), 1),
    "overlapping masks": (partial(UNet, target="multilabel", losses=LOSSES), CLASSES),
    "weighted masks": (partial(UNet, class_weights=(0.1, 1.0, 5.0, 2.0)), 1),
    "labels": (Classification, 1),
    "focal labels": (partial(Classification, loss="focal"), 1),
    "labels by bce": (partial(Classification, loss="bce"), 1),
    "several labels": (partial(Classification, target="multi"), 1),
    "several labels, focal": (partial(Classification, target="multi", loss="focal"), 1),
    "grades": (partial(Classification, target="ordinal"), 1),
    "numbers": (partial(Classification, target="regression"), 1),
    "numbers by squares": (partial(Classification, target="regression", loss="mse"), 1),
}


def probed_batch() -> Batch:
    """As large as the probe's batch, with as many boxes."""
    sizes = torch.tensor([[64, 96], [50, 70]])
    labels, crowd = torch.tensor([[0, 2], [1, -1]]), torch.zeros(2, 2, dtype=torch.bool)
    boxes = BoxTargets(torch.zeros(2, 2, 4), labels, crowd, torch.ones(2, dtype=torch.bool))
    targets = Targets(torch.tensor([11, 12]), boxes)
    return Batch(torch.zeros(2, 3, 64, 96), ImageSizes((64, 96), sizes, sizes), targets, (1, 2), ("", ""))


@pytest.mark.parametrize("name", CASES)
def test_losses_are_within_their_bounds(name: str) -> None:
    factory, planes = CASES[name]
    probe = Probe(factory, LEVELS, planes)
    head = probe.build()
    expected = expected_losses(head, probed_batch())
    losses = {loss: float(value.detach()) for loss, value in probe.losses(head.train()).items()}
    assert losses.keys() <= expected.keys()
    outside = {loss: (value, expected[loss]) for loss, value in losses.items() if not 0 < value <= expected[loss].high}
    assert outside == {}


def test_every_head_of_ours_is_expected_something() -> None:
    known = {*OWN, "classification"}
    kinds = {name: heads.factory(name) for name in heads.names() if name not in known}
    others = [name for name, kind in kinds.items() if not issubclass(kind, SegmentationHead | Classification)]
    assert others == []


def test_large_inputs_are_outside() -> None:
    """What the bounds are for."""
    probe = Probe(Classification, LEVELS, 1)
    head = probe.build()
    (name, bound), *_ = expected_losses(head, probed_batch()).items()
    with torch.no_grad():
        head.linear.weight *= 1000
    assert float(probe.losses(head)[name].detach()) > bound.high
