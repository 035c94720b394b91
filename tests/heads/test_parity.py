"""The same weights in torchvision's Faster or Mask R-CNN and in ours: the same detections, losses and gradients."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import heads.rpn
from tasks.prediction.from_torch import boxes_in

SIZES = [(150, 200), (170, 120), (128, 128)]


def random_targets(seed: int) -> list[dict[str, Tensor]]:
    """Boxes in each image of SIZES, none in the second, with an ellipse in each."""
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for (height, width), count in zip(SIZES, (6, 0, 3), strict=True):
        size = torch.tensor([width, height])
        corner = torch.rand(count, 2, generator=generator) * 0.6 * size
        sides = (0.1 + 0.3 * torch.rand(count, 2, generator=generator)) * size
        labels = torch.randint(1, 5, (count,), generator=generator)
        boxes = torch.cat((corner, corner + sides), dim=1)
        targets.append({"boxes": boxes, "labels": labels, "masks": ellipses(boxes, height, width)})
    return targets


def ellipses(boxes: Tensor, height: int, width: int) -> Tensor:
    """(N, H, W) uint8: the largest ellipse in each box."""
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    x = (torch.arange(width) + 0.5 - (x1 + x2) / 2) / (x2 - x1)
    y = (torch.arange(height)[:, None] + 0.5 - (y1 + y2) / 2) / (y2 - y1)
    return (x**2 + y**2 <= 0.25).to(torch.uint8)


@torch.no_grad()
def test_detections_equal(pair) -> None:
    images = pair.photographs(3, SIZES)
    expected = pair.reference.eval()(images)
    batch, sizes, _ = pair.prepare(images)
    found = pair.head.predict(pair.backbone(batch), sizes)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours.boxes) > 100
        assert torch.equal(ours.labels, theirs["labels"] - 1)
        torch.testing.assert_close(ours.boxes, theirs["boxes"], rtol=0, atol=1e-3)
        torch.testing.assert_close(ours.scores, theirs["scores"], rtol=0, atol=1e-5)
    assert set(torch.cat([ours.labels for ours in found]).tolist()) == {0, 1, 2, 3}


@torch.no_grad()
def test_instances_equal(mask_pair) -> None:
    images = mask_pair.photographs(3, SIZES)
    cells: list[dict[str, Tensor]] = []
    hook = mask_pair.reference.roi_heads.register_forward_hook(lambda _, __, output: cells.extend(map(dict, output[0])))
    expected = mask_pair.reference.eval()(images)
    hook.remove()
    batch, sizes, _ = mask_pair.prepare(images)
    found = mask_pair.head.predict(mask_pair.backbone(batch), sizes)
    for ours, theirs, theirs_cells, size in zip(found, expected, cells, SIZES, strict=True):
        assert len(ours.boxes) == 40
        assert torch.equal(ours.labels, theirs["labels"] - 1)
        torch.testing.assert_close(ours.boxes, theirs["boxes"], rtol=0, atol=1e-3)
        torch.testing.assert_close(ours.scores, theirs["scores"], rtol=0, atol=1e-5)
        assert ours.image_size == size
        torch.testing.assert_close(ours.masks, theirs_cells["masks"][:, 0], rtol=0, atol=1e-4)
        assert ours.masks.std() > 0.1
        # Pasted from the very same numbers, every pixel is the same.
        same = replace(ours, boxes=theirs["boxes"], masks=theirs_cells["masks"][:, 0])
        for pasted, whole in zip(boxes_in(same).masks(), theirs["masks"][:, 0], strict=True):
            assert torch.equal(torch.from_numpy(pasted), (whole > 0.5).to(torch.uint8))


@torch.no_grad()
def test_proposals_equal(pair) -> None:
    images = pair.photographs(4, SIZES)
    batch, sizes, _ = pair.prepare(images)
    transformed, _ = pair.reference.transform(images)
    pyramid = pair.reference.backbone(batch)
    expected, _ = pair.reference.rpn.eval()(transformed, pyramid)
    output = pair.head.rpn(list(pyramid.values()), sizes.padded)
    proposals = pair.head.rpn.propose(output, sizes, 1000, 1000)
    for ours, valid, theirs in zip(proposals.boxes, proposals.valid, expected, strict=True):
        assert int(valid.sum()) == len(theirs) < 1000
        # As sets: torchvision sorts by the sigmoid, in which neighbouring scores may tie.
        distance = (ours[valid][:, None] - theirs).abs().amax(dim=-1)
        assert distance.amin(dim=0).max() < 1e-3
        assert distance.amin(dim=1).max() < 1e-3
        assert not ours[~valid].any()


Chosen = list[tuple[Tensor, Tensor]]


def recorded(subsample: Callable[..., tuple[Tensor, Tensor]], into: Chosen) -> Callable[..., tuple[Tensor, Tensor]]:
    def subsample_and_record(*args: object) -> tuple[Tensor, Tensor]:
        into.append(subsample(*args))
        return into[-1]

    return subsample_and_record


class GivenSampler:
    """Takes the place of torchvision's random sampler: of each image the given elements."""

    def __init__(self, chosen: list[Tensor]) -> None:
        self.chosen = chosen

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        positive, negative = [], []
        for label, index in zip(labels, self.chosen, strict=True):
            drawn = torch.zeros(len(label), dtype=torch.bool).index_fill(0, index, True)
            # A sample that torchvision calls neither would make its set smaller than ours.
            assert (label[index] >= 0).all()
            positive.append((drawn & (label >= 1)).to(torch.uint8))
            negative.append((drawn & (label == 0)).to(torch.uint8))
        return positive, negative


@pytest.mark.parametrize("kind", ["pair", pytest.param("mask_pair", marks=pytest.mark.slow)])
def test_losses_and_gradients_equal(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = request.getfixturevalue(kind)
    # This network makes much of the order in which single precision rounds a sum, and that depends on the processor.
    for network in (pair.reference, pair.head):
        network.double()
        request.addfinalizer(network.float)
    images, targets = [image.double() for image in pair.photographs(5, SIZES)], random_targets(0)
    batch, sizes, scaled = pair.prepare(images, targets)
    anchors: Chosen = []
    monkeypatch.setattr(heads.rpn, "subsample", recorded(heads.rpn.subsample, anchors))
    samples = []
    sample = pair.head.roi_head.sample
    monkeypatch.setattr(pair.head.roi_head, "sample", lambda *args: samples.append(sample(*args)) or samples[0])
    weights = dict(pair.backbone.body.named_parameters())

    losses = pair.head.loss(pair.backbone(batch), sizes, pair.pad_targets(scaled, [7, 8, 9], sizes.padded))
    sum(losses.values()).backward()
    gradients = {name: weight.grad.clone() for name, weight in weights.items()}
    pair.backbone.zero_grad()

    index, valid = anchors[0]
    chosen_anchors = [image[drawn] for image, drawn in zip(index, valid, strict=True)]
    chosen_rois: list[Tensor] = []
    append = pair.reference.roi_heads.add_gt_proposals

    def append_and_find(*args: list[Tensor]) -> list[Tensor]:
        candidates = append(*args)
        for theirs, ours, drawn in zip(candidates, samples[0].boxes, samples[0].valid, strict=True):
            # Two proposals of different levels may be equal once they are cut to the image, so each is taken once.
            taken, index = torch.zeros(len(theirs)), []
            for box in ours[drawn]:
                nearest, row = ((theirs - box).abs().amax(dim=1) + taken).min(dim=0)
                assert nearest < 1e-3
                taken[row] = torch.inf
                index.append(int(row))
            chosen_rois.append(torch.tensor(index))
        return candidates

    monkeypatch.setattr(pair.reference.roi_heads, "add_gt_proposals", append_and_find)
    monkeypatch.setattr(pair.reference.rpn, "fg_bg_sampler", GivenSampler(chosen_anchors))
    monkeypatch.setattr(pair.reference.roi_heads, "fg_bg_sampler", GivenSampler(chosen_rois))
    pair.reference.train()
    pair.reference.backbone.eval()
    expected = pair.reference(images, targets)
    sum(expected.values()).backward()
    pair.reference.eval()

    names = {
        "loss_rpn_objectness": "loss_objectness",
        "loss_rpn_box": "loss_rpn_box_reg",
        "loss_roi_classification": "loss_classifier",
        "loss_roi_box": "loss_box_reg",
        **({"loss_mask": "loss_mask"} if kind == "mask_pair" else {}),
    }
    assert losses.keys() == names.keys()
    for name, theirs in names.items():
        assert expected[theirs] > 1e-3
        torch.testing.assert_close(losses[name], expected[theirs], rtol=1e-5, atol=0, check_dtype=False)
    for name, weight in weights.items():
        assert (gradients[name] - weight.grad).norm() <= 1e-6 * weight.grad.norm(), name
    pair.reference.zero_grad()
    pair.head.zero_grad()
