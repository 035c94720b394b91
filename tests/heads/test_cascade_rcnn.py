"""The cascade against a slow formulation of its own, box by box, and against Faster R-CNN where it has one stage."""

import inspect
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, nms

from backbones.errors import UserError
from heads import CascadeMaskRCNN, CascadeRCNN, Detections, FasterRCNN, MaskRCNN
from heads import heads as registry
from heads.faster_rcnn import pooled_levels
from heads.roi_align import roi_align
from heads.roi_head import RoIHead, RoISamples
from tasks.config import CascadeMaskRCNNConfig, CascadeRCNNConfig
from tasks.detection.head_config import CascadeConfig
from tests.heads.test_faster_rcnn import FEATURES, LOSSES, make_targets, maps, sizes
from tests.heads.test_mask_rcnn import instances

SMALL = {"fpn_channels": 8, "box_head_channels": 16, "anchor_sizes": (8, 16, 32, 64, 128), "rpn_post_nms_test": 60}
IOUS, WEIGHTS = (0.5, 0.6, 0.7), ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))


def cascade(**options: object) -> CascadeRCNN:
    """With layers whose numbers matter: scores and offsets that vary from box to box."""
    torch.manual_seed(0)
    head = CascadeRCNN(FEATURES, 3, **{**SMALL, **options})
    for stage in head.stages:
        torch.nn.init.normal_(stage.cls_score.weight, std=0.3)
        torch.nn.init.normal_(stage.bbox_pred.weight, std=0.1)
    return head


@pytest.mark.parametrize(
    ("kind", "section"), [(CascadeRCNN, CascadeRCNNConfig()), (CascadeMaskRCNN, CascadeMaskRCNNConfig())]
)
def test_registered_and_documented_as_configured(kind: type[CascadeRCNN], section: CascadeConfig) -> None:
    assert registry.factory(kind.name) is kind
    parameters = inspect.signature(kind).parameters
    options = {name: p.default for name, p in parameters.items() if p.kind is not p.POSITIONAL_OR_KEYWORD}
    assert options == section.model_dump(exclude={"name"})
    for name in options.keys() & inspect.signature(CascadeRCNN.__init__).parameters.keys():
        assert f"\n    {name}: " in (inspect.getdoc(CascadeRCNN) or ""), name
    # What the cascade decides itself cannot be given.
    with pytest.raises(UserError, match=r"class_agnostic.*it takes cascade_.*rcnn\(.*stage_ious"):
        registry.build(kind.name, FEATURES, 3, class_agnostic=False)


def decoded(
    offsets: Sequence[float], box: Sequence[float], weights: Sequence[float], limit: Sequence[int]
) -> list[float]:
    """One box from its offsets, cut to an image of height and width `limit`."""
    width, height = box[2] - box[0], box[3] - box[1]
    x = box[0] + width / 2 + offsets[0] / weights[0] * width
    y = box[1] + height / 2 + offsets[1] / weights[1] * height
    width *= math.exp(min(offsets[2] / weights[2], math.log(1000 / 16)))
    height *= math.exp(min(offsets[3] / weights[3], math.log(1000 / 16)))
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return [min(max(value, 0), limit[1 - place % 2]) for place, value in enumerate(corners)]


def outputs(stage: RoIHead, levels: list[Tensor], image: int, box: Sequence[float]) -> tuple[Tensor, list[float]]:
    """Logits (K + 1,) and offsets of one box."""
    pooled = roi_align(levels, stage.strides, torch.tensor([box]), torch.tensor([image]), stage.pooling)
    hidden = (stage.fc7(stage.fc6(pooled.flatten(1)).relu())).relu()
    return stage.cls_score(hidden)[0], stage.bbox_pred(hidden)[0].tolist()


@torch.no_grad()
def test_losses_as_worked_out_box_by_box(monkeypatch: pytest.MonkeyPatch) -> None:
    head = cascade(roi_samples=40)
    size, targets = sizes(2), make_targets(2)
    drawn: list[RoISamples] = []
    sample = head.roi_head.sample
    monkeypatch.setattr(head.roi_head, "sample", lambda *args: drawn.append(sample(*args)) or drawn[0])
    losses = head.loss(maps(2), size, targets)
    pyramid = head.fpn(maps(2))
    levels = pooled_levels(pyramid)
    assert targets.boxes is not None

    expected = {name: 0.0 for name in losses if "roi" in name}
    counts = dict.fromkeys(expected, 0)
    positives = [0, 0, 0]
    for image in range(2):
        truth, labels = targets.boxes.boxes[image], targets.boxes.labels[image].tolist()
        boxes = drawn[0].boxes[image][drawn[0].valid[image]].tolist()
        for number, (stage, iou, weights, factor) in enumerate(
            zip(head.stages, IOUS, WEIGHTS, (1, 0.5, 0.25), strict=True)
        ):
            name = f"loss_roi{number + 1 if number else ''}"
            refined = []
            for box in boxes:
                best, index = box_iou(torch.tensor([box]), truth)[0].max(dim=0)
                label = labels[int(index)] + 1 if best >= iou else 0
                logits, offsets = outputs(stage, levels, image, box)
                expected[f"{name}_classification"] -= factor * float(logits.log_softmax(0)[label])
                if label:
                    positives[number] += 1
                    x, y, width, height = (
                        (box[i] + box[i + 2]) / 2 if i < 2 else box[i] - box[i - 2] for i in range(4)
                    )
                    tx1, ty1, tx2, ty2 = truth[int(index)].tolist()
                    wanted = (
                        weights[0] * ((tx1 + tx2) / 2 - x) / width,
                        weights[1] * ((ty1 + ty2) / 2 - y) / height,
                        weights[2] * math.log((tx2 - tx1) / width),
                        weights[3] * math.log((ty2 - ty1) / height),
                    )
                    error = F.smooth_l1_loss(torch.tensor(offsets), torch.tensor(wanted), beta=1 / 9, reduction="sum")
                    expected[f"{name}_box"] += factor * float(error)
                counts[f"{name}_classification"] += 1
                counts[f"{name}_box"] += 1
                refined.append(decoded(offsets, box, weights, size.valid[image].tolist()))
            boxes = [box for box in refined if box[2] - box[0] >= 0.01 and box[3] - box[1] >= 0.01]
    assert min(positives) > 3
    assert len(set(positives)) > 1
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value / counts[name], rel=1e-4), name


@torch.no_grad()
def test_detections_as_worked_out_box_by_box() -> None:
    head = cascade(score_threshold=0.3, detections_per_image=30).eval()
    size = sizes(2)
    pyramid = head.fpn(maps(2))
    levels = pooled_levels(pyramid)
    _, proposals = head._propose(pyramid, size, head.test_counts)
    for image, found in enumerate(head.predict(maps(2), size)):
        boxes, scores = [], []
        for box in proposals.boxes[image][proposals.valid[image]].tolist():
            probabilities = []
            for stage, weights in zip(head.stages, WEIGHTS, strict=True):
                logits, offsets = outputs(stage, levels, image, box)
                probabilities.append(logits.softmax(0))
                box = decoded(offsets, box, weights, size.valid[image].tolist())
            boxes.append(box)
            scores.append((sum(probabilities) / 3)[1:])
        rows = []
        for label in range(3):
            own = torch.stack(scores)[:, label]
            usable = [
                i for i, box in enumerate(boxes) if own[i] > 0.3 and min(box[2] - box[0], box[3] - box[1]) >= 0.01
            ]
            kept = [usable[row] for row in nms(torch.tensor(boxes)[usable], own[usable], 0.5).tolist()]
            rows += [(float(own[row]), label, boxes[row]) for row in kept]
        rows = sorted(rows, key=lambda row: -row[0])[:30]
        assert isinstance(found, Detections)
        assert len(rows) > 3
        assert found.labels.tolist() == [label for _, label, _ in rows]
        torch.testing.assert_close(found.scores, torch.tensor([score for score, _, _ in rows]), rtol=1e-4, atol=0)
        # The original images are twice as large.
        torch.testing.assert_close(found.boxes, 2 * torch.tensor([box for _, _, box in rows]), rtol=0, atol=2e-3)


def test_one_stage_is_a_faster_rcnn() -> None:
    """Class-agnostic, and exactly so: losses, gradients, detections and logits."""
    head = cascade(stage_ious=(0.5,), stage_offset_weights=((10, 10, 5, 5),), stage_loss_weights=(1.0,))
    plain = FasterRCNN(FEATURES, 3, class_agnostic=True, **SMALL)  # type: ignore[arg-type]
    plain.load_state_dict(head.state_dict(), strict=True)
    found = []
    for one in (head, plain):
        losses = one.loss(maps(2), sizes(2), make_targets(2))
        assert list(losses) == LOSSES
        torch.stack(list(losses.values())).sum().backward()
        predictions = one.predict(maps(2), sizes(2))
        logits = one.class_logits(maps(2), sizes(2), predictions)
        gradients = [weight.grad for weight in one.parameters()]
        boxes = [getattr(each, name) for each in predictions for name in ("boxes", "scores", "labels")]
        found.append([*losses.values(), *gradients, *boxes, *logits])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


def test_one_stage_with_masks_is_a_mask_rcnn() -> None:
    torch.manual_seed(0)
    small = {**SMALL, "mask_channels": 8, "score_threshold": 0.0}
    one_stage = {"stage_ious": (0.5,), "stage_offset_weights": ((10, 10, 5, 5),), "stage_loss_weights": (1.0,)}
    head = CascadeMaskRCNN(FEATURES, 3, **small, **one_stage)  # type: ignore[arg-type]
    plain = MaskRCNN(FEATURES, 3, class_agnostic=True, **small)
    plain.load_state_dict(head.state_dict(), strict=True)
    assert CascadeMaskRCNN.reads_outlines
    found = []
    for one in (head, plain):
        losses = one.loss(maps(2), sizes(2), instances(2))
        assert list(losses) == [*LOSSES, "loss_mask"]
        masks = [each.masks for each in one.predict(maps(2), sizes(2)) if isinstance(each, Detections)]
        found.append([*losses.values(), *masks])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


def test_masks_are_drawn_in_the_boxes_of_the_last_stage() -> None:
    torch.manual_seed(0)
    head = CascadeMaskRCNN(FEATURES, 3, mask_channels=8, score_threshold=0.0, **SMALL).eval()  # type: ignore[arg-type]
    for stage in head.stages:
        torch.nn.init.normal_(stage.bbox_pred.weight, std=0.1)
    losses = head.loss(maps(2), sizes(2), instances(2))
    assert list(losses)[-1] == "loss_mask"
    assert len(losses) == 9
    found = head.predict(maps(2), sizes(2))
    boxes = torch.cat([one.boxes for one in found if isinstance(one, Detections)]) / 2
    labels = torch.cat([one.labels for one in found if isinstance(one, Detections)])
    images = torch.arange(2).repeat_interleave(torch.tensor([len(one.boxes) for one in found]))  # type: ignore[union-attr]
    pyramid = head.fpn(maps(2))
    expected = head.mask_head(pooled_levels(pyramid), boxes, images, labels).sigmoid()
    masks = torch.cat([one.masks for one in found if isinstance(one, Detections) and one.masks is not None])
    torch.testing.assert_close(masks, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["no boxes", "unannotated", "crowd"])
def test_nothing_to_learn_from(case: str) -> None:
    head, targets = cascade(), make_targets(2, 0 if case == "no boxes" else 3)
    assert targets.boxes is not None
    if case == "unannotated":
        targets.boxes.annotated[:] = False
    if case == "crowd":  # the whole image, so that nothing in it is background
        targets.boxes.crowd[:] = True
        targets.boxes.boxes[:] = torch.tensor([0.0, 0, 128, 128])
    losses = head.loss(maps(2), sizes(2), targets)
    names = [*LOSSES, *(f"loss_roi{stage}_{kind}" for stage in (2, 3) for kind in ("classification", "box"))]
    assert list(losses) == names
    for name in names[2:]:
        assert (losses[name] == 0) == (name.endswith("box") or case != "no boxes"), name
    torch.stack(list(losses.values())).sum().backward()
    for name, weight in head.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


def test_it_learns() -> None:
    torch.manual_seed(0)
    head = CascadeRCNN(FEATURES, 3, **SMALL)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(head.parameters(), lr=0.02, momentum=0.9)
    history = []
    for _ in range(10):
        loss = torch.stack(list(head.loss(maps(2), sizes(2), make_targets(2)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.9 * history[0]


def test_a_stage_does_not_teach_the_one_before() -> None:
    """Boxes are handed on without their gradient."""
    head = cascade()
    losses = head.loss(maps(1), sizes(1), make_targets(1))
    (losses["loss_roi3_classification"] + losses["loss_roi3_box"]).backward()
    assert all(weight.grad is None for stage in head.stages[:2] for weight in stage.parameters())
    assert all(weight.grad is not None for weight in head.stages[2].parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage_ious": ()}, r"cascade_rcnn: stage_ious is \(\); expected one at least"),
        ({"stage_ious": (0.5, 1.5, 0.7)}, "each 0 to 1"),
        ({"stage_loss_weights": (1.0,)}, r"stage_loss_weights is \(1\.0,\); expected 3 of them, as stage_ious has"),
        ({"stage_ious": (0.5,)}, r"stage_offset_weights is .*expected 1 of them"),
        ({"box_loss": "ciou"}, "cascade_rcnn: box_loss is ciou"),
    ],
)
def test_bad_options_are_one_clear_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CascadeRCNN(FEATURES, 3, **{**SMALL, **options})  # type: ignore[arg-type]
