"""What one-stage heads promise; that their numbers are right is shown in test_one_stage_parity and by their parts."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

import heads.fcos
import heads.retinanet
import heads.yolo
from backbones.contract import FeatureSpec
from backbones.errors import UserError
from heads import FCOS, YOLO, BoxTargets, Detections, Head, ImageSizes, RetinaNet, Targets
from heads import heads as registry
from tasks.config import FCOSConfig, RetinaNetConfig, YOLOConfig

FEATURES = {f"c{level}": FeatureSpec(8, 1 << level) for level in range(3, 6)}
HEADS: dict[str, type[Head]] = {"retinanet": RetinaNet, "fcos": FCOS, "yolo": YOLO}
CONFIGS = {"retinanet": RetinaNetConfig, "fcos": FCOSConfig, "yolo": YOLOConfig}
SMALL: dict[str, dict[str, object]] = {
    "retinanet": {"anchor_sizes": (8, 16, 32, 64, 128)},
    "fcos": {"scale_limits": (16, 32, 64, 128), "score_threshold": 0.05},
    "yolo": {},
}
LOSSES = {
    "retinanet": ["loss_classification", "loss_box"],
    "fcos": ["loss_classification", "loss_box", "loss_centerness"],
    "yolo": ["loss_classification", "loss_box", "loss_distribution"],
}
# How each assigns boxes, and where it looks it up.
ASSIGNS = {"retinanet": "match", "fcos": "assign_points", "yolo": "assign_aligned"}
kinds = pytest.mark.parametrize("kind", HEADS)


def small_head(kind: str, **options: object) -> Any:
    torch.manual_seed(0)
    return HEADS[kind](FEATURES, 3, **{"fpn_channels": 16, "tower_depth": 1, **SMALL[kind], **options})


def maps(images: int, size: int = 128) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(images, spec.channels, size // spec.stride, size // spec.stride, generator=generator)
        for name, spec in FEATURES.items()
    }


def sizes(images: int, size: int = 128) -> ImageSizes:
    valid = torch.tensor([[size - 20, size - 8 * image] for image in range(images)])
    return ImageSizes((size, size), valid, valid * 2)


def make_targets(images: int, boxes: int = 3) -> Targets:
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(images, boxes, 2, generator=generator) * 50
    extent = 14 + torch.rand(images, boxes, 2, generator=generator) * 30
    return Targets(
        torch.arange(images),
        BoxTargets(
            torch.cat((corner, corner + extent), dim=2),
            torch.randint(0, 3, (images, boxes), generator=generator),
            torch.zeros(images, boxes, dtype=torch.bool),
            torch.ones(images, dtype=torch.bool),
        ),
    )


@kinds
def test_registered_and_documented_as_configured(kind: str) -> None:
    head = HEADS[kind]
    assert registry.factory(kind) is head
    parameters = inspect.signature(head).parameters
    options = {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert options == CONFIGS[kind]().model_dump(exclude={"name"})
    for name in ("features", "num_classes", *options):
        assert f"        {name}: " in inspect.getdoc(head).replace("\n    ", "\n        "), name


@kinds
@pytest.mark.parametrize("training", [True, False])
def test_loss_and_predict_do_not_depend_on_mode(kind: str, training: bool) -> None:
    head = small_head(kind, score_threshold=0.0).train(training)
    losses = head.loss(maps(2), sizes(2), make_targets(2))
    assert list(losses) == LOSSES[kind]
    for loss in losses.values():
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        assert loss > 0
    detections = head.predict(maps(2), sizes(2))
    assert len(detections) == 2
    for image, found in enumerate(detections):
        assert 0 < len(found.boxes) == len(found.scores) == len(found.labels) <= 100
        assert found.boxes.dtype == found.scores.dtype == torch.float32
        assert set(found.labels.tolist()) <= {0, 1, 2}
        assert torch.equal(found.scores, found.scores.sort(descending=True).values)
        height, width = sizes(2).original[image]
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height, width, height])).all()
        # In pixels of the original image, which is twice as large.
        assert found.boxes.max() > 128


@kinds
def test_no_detection_is_an_empty_one(kind: str) -> None:
    for found in small_head(kind, score_threshold=1.0).predict(maps(2), sizes(2)):
        assert found.boxes.shape == (0, 4)
        assert found.scores.shape == found.labels.shape == (0,)
        assert found.labels.dtype == torch.int64


def without_boxes(images: int) -> Targets:
    return make_targets(images, boxes=0)


def unannotated(images: int) -> Targets:
    targets = make_targets(images)
    return replace(targets, boxes=replace(targets.boxes, annotated=torch.zeros(images, dtype=torch.bool)))


def no_box_targets(images: int) -> Targets:
    return replace(make_targets(images), boxes=None)


@kinds
@pytest.mark.parametrize("targets", [without_boxes, unannotated, no_box_targets])
def test_nothing_to_learn_from(kind: str, targets: Callable[[int], Targets]) -> None:
    head = small_head(kind)
    losses = head.loss(maps(2), sizes(2), targets(2))
    assert list(losses) == LOSSES[kind]
    learns = targets is without_boxes
    assert [name for name, loss in losses.items() if loss == 0] == LOSSES[kind][1 if learns else 0 :]
    sum(losses.values()).backward()
    for weight in head.parameters():
        assert weight.grad.isfinite().all()
    assert bool(head.cls_logits.weight.grad.any()) == learns
    assert not head.bbox_pred.weight.grad.any()


def one_image(targets: Targets, image: int, room: int = 0) -> Targets:
    """Of one image, with room for more boxes, as in a batch with a fuller one."""
    own = slice(image, image + 1)
    boxes = targets.boxes
    return Targets(
        targets.seeds[own],
        BoxTargets(
            nn.functional.pad(boxes.boxes[own], (0, 0, 0, room)),
            nn.functional.pad(boxes.labels[own], (0, room), value=-1),
            nn.functional.pad(boxes.crowd[own], (0, room)),
            boxes.annotated[own],
        ),
    )


@contextmanager
def assigned(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the head assigns boxes to from now on."""
    module = {"retinanet": heads.retinanet, "fcos": heads.fcos, "yolo": heads.yolo}[kind]
    assign = getattr(module, ASSIGNS[kind])
    found: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(module, ASSIGNS[kind], lambda *args, **names: found.append(assign(*args, **names)) or found[-1])
        yield found


@kinds
def test_the_loss_of_a_batch_is_that_of_its_images(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its own share; an image that nobody annotated has none."""
    head, targets = small_head(kind), make_targets(3)
    targets = replace(targets, boxes=replace(targets.boxes, annotated=torch.tensor([True, True, False])))
    total, shares = dict.fromkeys(LOSSES[kind], 0.0), 0.0
    with assigned(kind, monkeypatch) as found:
        with torch.no_grad():
            whole = head.loss(maps(3), sizes(3), targets)
        batch = found.pop()
        for image in range(3):
            own = {name: level[image : image + 1] for name, level in maps(3).items()}
            size = ImageSizes((128, 128), sizes(3).valid[image : image + 1], sizes(3).original[image : image + 1])
            with torch.no_grad():
                losses = head.loss(own, size, one_image(targets, image, room=2))
            matches, share = found[-1], 1.0
            if kind == "fcos":
                share = float(matches.positive.sum())
            elif kind == "yolo":
                matches, alignment = matches
                share = float(alignment.sum())
                torch.testing.assert_close(alignment[0], batch[1][image])
            together = batch[0] if kind == "yolo" else batch
            positive = together.positive[image]
            assert torch.equal(matches.positive[0], positive)
            assert torch.equal(matches.negative[0], together.negative[image])
            assert torch.equal(matches.index[0][positive], together.index[image][positive])
            if image == 2:
                assert not any(losses.values())
                continue
            # A count below one counts as one, in every batch.
            total = {name: total[name] + float(loss) * max(share, 1) for name, loss in losses.items()}
            shares += share
    for name, loss in whole.items():
        assert float(loss) == pytest.approx(total[name] / max(shares, 1), rel=1e-4), name


@kinds
@pytest.mark.parametrize("crowd", [True, False])
def test_what_is_background(kind: str, crowd: bool) -> None:
    """Neither what lies in a crowd nor what lies in the padding; a plain object's surroundings are."""
    head = small_head(kind)
    region, valid = torch.tensor([0.0, 0, 108, 60]), torch.tensor([[108, 90]])
    boxes = torch.stack((region, torch.tensor([30.0, 70, 60, 100])))[None]
    targets = make_targets(1, boxes=2)
    targets = replace(targets, boxes=replace(targets.boxes, boxes=boxes, crowd=torch.tensor([[crowd, False]])))
    seen: list[Any] = []
    head.register_forward_hook(lambda module, args, output: seen.append(output))
    losses = head.loss(maps(1), ImageSizes((128, 128), valid, valid), targets)
    places, logits = seen[0][0], seen[0][1]
    (gradient,) = torch.autograd.grad(losses["loss_classification"], logits)
    pushed_down = (gradient[0] >= 0).all(dim=-1) & (gradient[0] > 0).any(dim=-1)  # no class is wanted there
    if kind == "retinanet":
        centres = (places.boxes[:, :2] + places.boxes[:, 2:]) / 2
        low, high = torch.maximum(places.boxes[:, :2], region[:2]), torch.minimum(places.boxes[:, 2:], region[2:])
        covered = (high - low).clamp(min=0).prod(-1) >= 0.5 * (places.boxes[:, 2:] - places.boxes[:, :2]).prod(-1)
    else:
        centres = places.centres
        covered = ((centres > region[:2]) & (centres < region[2:])).all(-1)
    inside = (centres < valid[0].flip(0)).all(-1)
    assert not gradient[0][~inside].any()
    assert pushed_down[inside & ~covered].sum() > 20
    assert (int(pushed_down[inside & covered].sum()) == 0) == crowd


@kinds
def test_class_logits_are_those_of_the_scores(kind: str) -> None:
    head = small_head(kind, score_threshold=0.0, **({"reg_max": 2} if kind == "yolo" else {})).eval()
    nn.init.normal_(head.cls_logits.weight)
    if kind == "yolo":  # else boxes of many cells, cut off at the border of the image, are the same
        nn.init.normal_(head.bbox_pred.weight)
    features = {name: level.requires_grad_() for name, level in maps(2).items()}
    found = head.predict(features, sizes(2))
    logits = head.class_logits(features, sizes(2), found)
    for own, one in zip(logits, found, strict=True):
        assert own.shape == (len(one.boxes), 3)
        chosen = own.gather(1, one.labels[:, None])[:, 0].sigmoid()
        if kind == "fcos":  # whose scores are less by a factor that is the same for all classes
            assert (chosen >= one.scores**2 - 1e-5).all()
            continue
        torch.testing.assert_close(chosen, one.scores, atol=1e-5, rtol=0)
    gradients = torch.autograd.grad(logits[1].sum(), [features["c3"]])
    assert not gradients[0][0].any()  # nothing of the other image
    assert gradients[0][1].any()
    none = [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())] * 2
    assert [own.shape for own in head.class_logits(features, sizes(2), none)] == [(0, 3), (0, 3)]


@kinds
def test_learns_a_batch_by_heart(kind: str) -> None:
    head, features, targets = small_head(kind, fpn_channels=32, tower_norm="gn"), maps(2, 96), make_targets(2, boxes=2)
    boxes = targets.boxes.boxes.mul_(0.7)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(120):
        loss = sum(head.loss(features, sizes(2, 96), targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for image, found in enumerate(head.predict(features, sizes(2, 96))):
        iou = box_iou(found.boxes[:2] / 2, boxes[image])
        assert iou.amax(dim=0).min() > 0.7
        assert torch.equal(targets.boxes.labels[image][iou.argmax(dim=1)], found.labels[:2])
        assert found.scores[1] > 0.5
        assert len(found.scores) == 2 or found.scores[2] < 0.5 * found.scores[1]


@kinds
def test_bfloat16_losses_are_near_float32(kind: str) -> None:
    head = small_head(kind)
    with torch.no_grad():
        exact = head.loss(maps(2), sizes(2), make_targets(2))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = head.loss(maps(2), sizes(2), make_targets(2))
            found = head.predict(maps(2), sizes(2))
    for name in LOSSES[kind]:
        assert rounded[name].dtype == torch.float32
        assert float(rounded[name]) == pytest.approx(float(exact[name]), rel=0.05), name
    assert all(one.boxes.dtype == one.scores.dtype == torch.float32 for one in found)


@pytest.mark.parametrize(
    ("kind", "option", "values"),
    [
        ("retinanet", "box_loss", ("l1", "smooth_l1", "giou")),
        ("retinanet", "extra_level", ("pool", "c5")),
        ("retinanet", "tower_norm", ("gn",)),
        ("retinanet", "exact_anchors", (True,)),
        ("retinanet", "scales_per_octave", (1,)),
        ("fcos", "box_loss", ("giou", "ciou")),
        ("fcos", "exact_points", (True,)),
        ("fcos", "tower_norm", ("none",)),
        ("yolo", "box_loss", ("giou", "ciou")),
        ("yolo", "focal_beta", (0.0, 1.0)),
        ("yolo", "assigned_cells", (1, 10**6)),
    ],
)
def test_every_option_steps(kind: str, option: str, values: tuple[object, ...]) -> None:
    losses = []
    for value in values:
        head = small_head(kind, **{option: value})
        loss = sum(head.loss(maps(2), sizes(2), make_targets(2)).values())
        loss.backward()
        assert all(weight.grad.isfinite().all() for weight in head.parameters())
        assert len(head.predict(maps(2), sizes(2))) == 2
        losses.append(float(loss.detach()))
    plain = sum(small_head(kind).loss(maps(2), sizes(2), make_targets(2)).values()).detach()
    assert len({*losses, float(plain)}) >= len(values)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "retinanet",
            {"anchor_sizes": (32,)},
            r"anchor_sizes is \(32,\); expected 5 sizes, one for each of p3, p4,",
        ),
        ("retinanet", {"box_loss": "ciou"}, "retinanet: box_loss is ciou; expected l1, smooth_l1 or giou"),
        ("retinanet", {"negative_iou": 0.8}, r"negative_iou is 0\.8; expected 0 to positive_iou \(0\.5\)"),
        ("retinanet", {"scales_per_octave": 0}, "scales_per_octave is 0; expected at least 1"),
        ("retinanet", {"extra_level": "p7"}, "extra_level is 'p7'"),
        (
            "fcos",
            {"scale_limits": (64, 32, 128, 256)},
            "scale_limits is .*; expected 4 rising numbers, one for each",
        ),
        ("fcos", {"scale_limits": (64,)}, "expected 4 rising numbers"),
        ("fcos", {"box_loss": "l1"}, "fcos: box_loss is l1; expected giou or ciou"),
        ("fcos", {"center_radius": 0}, "center_radius is 0; expected a number above 0"),
        ("yolo", {"reg_max": 0}, "yolo: reg_max is 0; expected at least 1"),
        ("yolo", {"assigned_cells": 0}, "assigned_cells is 0; expected at least 1"),
        ("yolo", {"tower_norm": "bn"}, "tower_norm is bn; expected none or gn"),
    ],
)
def test_bad_options_are_one_clear_line(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_head(kind, **options)
    with pytest.raises(UserError, match="num_classes is 0"):
        HEADS[kind](FEATURES, 0)  # type: ignore[call-arg]
    with pytest.raises(UserError, match="c5 is missing"):
        HEADS[kind]({name: FEATURES[name] for name in ("c3", "c4")}, 3)  # type: ignore[call-arg]
