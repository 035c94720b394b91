"""What the head promises on its own; that its numbers are right is shown against torchvision in test_parity."""

import inspect
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import heads.roi_head
import heads.rpn
from backbones.contract import FeatureSpec
from backbones.errors import UserError
from heads import BoxTargets, FasterRCNN, ImageSizes, Targets
from heads import heads as registry
from heads.matcher import Matches
from tasks.config import FasterRCNNConfig

FEATURES = {f"c{level}": FeatureSpec(4, 1 << level) for level in range(2, 6)}
LOSSES = ["loss_rpn_objectness", "loss_rpn_box", "loss_roi_classification", "loss_roi_box"]


def small_head(**options: object) -> FasterRCNN:
    torch.manual_seed(0)
    settings = {"fpn_channels": 8, "box_head_channels": 16, "anchor_sizes": (8, 16, 32, 64, 128), **options}
    return FasterRCNN(FEATURES, 3, **settings)


def maps(images: int, size: int = 128) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(images, spec.channels, size // spec.stride, size // spec.stride, generator=generator)
        for name, spec in FEATURES.items()
    }


def sizes(images: int, size: int = 128) -> ImageSizes:
    valid = torch.tensor([[size - 20, size - 8 * image] for image in range(images)])
    return ImageSizes((size, size), valid, valid * 2)


def one_image(targets: Targets, image: int) -> Targets:
    one = slice(image, image + 1)
    parts = (getattr(targets.boxes, name)[one] for name in ("boxes", "labels", "crowd", "annotated"))
    return Targets(targets.seeds[one], BoxTargets(*parts))


def one_size(size: ImageSizes, image: int) -> ImageSizes:
    return ImageSizes(size.padded, size.valid[image : image + 1], size.original[image : image + 1])


def make_targets(images: int, boxes: int = 3) -> Targets:
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(images, boxes, 2, generator=generator) * 50
    extent = 10 + torch.rand(images, boxes, 2, generator=generator) * 30
    return Targets(
        torch.arange(images),
        BoxTargets(
            torch.cat((corner, corner + extent), dim=2),
            torch.randint(0, 3, (images, boxes), generator=generator),
            torch.zeros(images, boxes, dtype=torch.bool),
            torch.ones(images, dtype=torch.bool),
        ),
    )


def test_registered_and_documented_as_configured() -> None:
    assert registry.factory("faster_rcnn") is FasterRCNN
    parameters = inspect.signature(FasterRCNN).parameters
    options = {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert options == FasterRCNNConfig().model_dump(exclude={"name"})
    for name in ("features", "num_classes", *options):
        assert f"        {name}: " in inspect.getdoc(FasterRCNN).replace("\n    ", "\n        "), name


@pytest.mark.parametrize("training", [True, False])
def test_loss_and_predict_do_not_depend_on_mode(training: bool) -> None:
    head = small_head(score_threshold=0.0).train(training)
    losses = head.loss(maps(2), sizes(2), make_targets(2))
    assert list(losses) == LOSSES
    for loss in losses.values():
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        assert loss > 0
    detections = head.predict(maps(2), sizes(2))
    assert len(detections) == 2
    for image, found in enumerate(detections):
        assert len(found.boxes) == len(found.scores) == len(found.labels) == 100
        assert found.boxes.dtype == found.scores.dtype == torch.float32
        assert set(found.labels.tolist()) <= {0, 1, 2}
        assert torch.equal(found.scores, found.scores.sort(descending=True).values)
        height, width = sizes(2).original[image]
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height, width, height])).all()
        # In pixels of the original image, which is twice as large.
        assert found.boxes.max() > 128


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("box_loss", ["l1", "smooth_l1", "giou"])
def test_every_option_steps(class_agnostic: bool, box_loss: str) -> None:
    head = small_head(class_agnostic=class_agnostic, box_loss=box_loss, extra_level="p5")
    optimizer = torch.optim.SGD(head.parameters(), lr=0.02, momentum=0.9)
    history = []
    for _ in range(12):
        loss = sum(head.loss(maps(2), sizes(2), make_targets(2)).values())
        optimizer.zero_grad()
        loss.backward()
        assert all(weight.grad.isfinite().all() for weight in head.parameters())
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.9 * history[0]
    assert len(head.predict(maps(2), sizes(2))) == 2


def test_box_loss_weight_scales_the_second_stage_only() -> None:
    plain = small_head().loss(maps(2), sizes(2), make_targets(2))
    scaled = small_head(box_loss_weight=10.0).loss(maps(2), sizes(2), make_targets(2))
    torch.testing.assert_close(scaled["loss_roi_box"], 10 * plain["loss_roi_box"])
    for name in LOSSES[:3]:
        assert scaled[name] == plain[name]


def without_boxes(images: int) -> Targets:
    return make_targets(images, boxes=0)


def unannotated(images: int) -> Targets:
    targets = make_targets(images)
    return replace(targets, boxes=replace(targets.boxes, annotated=torch.zeros(images, dtype=torch.bool)))


def no_box_targets(images: int) -> Targets:
    return replace(make_targets(images), boxes=None)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(
    ("targets", "zero"),
    [(without_boxes, ["loss_rpn_box", "loss_roi_box"]), (unannotated, LOSSES), (no_box_targets, LOSSES)],
)
def test_nothing_to_learn_from(images: int, targets: Callable[[int], Targets], zero: list[str]) -> None:
    head = small_head()
    losses = head.loss(maps(images), sizes(images), targets(images))
    assert list(losses) == LOSSES
    assert [name for name, loss in losses.items() if loss == 0] == zero
    sum(losses.values()).backward()
    for weight in head.parameters():
        assert weight.grad.isfinite().all()
    assert bool(head.rpn.cls_logits.weight.grad.any()) == (zero != LOSSES)
    assert not head.rpn.bbox_pred.weight.grad.any()


def test_unannotated_image_adds_nothing() -> None:
    head = small_head()
    targets = make_targets(2)
    half = replace(targets, boxes=replace(targets.boxes, annotated=torch.tensor([True, False])))
    both = head.loss(maps(2), sizes(2), half)
    first = {name: level[:1] for name, level in maps(2).items()}
    alone = head.loss(first, one_size(sizes(2), 0), one_image(targets, 0))
    for name in LOSSES:
        torch.testing.assert_close(both[name], alone[name])


def drawn(module: object, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor, Matches]]:
    """What the stage samples from now on: indices, validity, and the matches they were drawn from."""
    found: list[tuple[Tensor, Tensor, Matches]] = []
    matches: list[Matches] = []
    match, subsample = module.match, module.subsample

    def watched_match(*args: object, **options: object) -> Matches:
        matches.append(match(*args, **options))
        return matches[-1]

    def watched_subsample(*args: object) -> tuple[Tensor, Tensor]:
        index, valid = subsample(*args)
        found.append((index, valid, matches[-1]))
        return index, valid

    monkeypatch.setattr(module, "match", watched_match)
    monkeypatch.setattr(module, "subsample", watched_subsample)
    return found


@pytest.mark.parametrize("crowd", [True, False])
def test_nothing_in_a_crowd_is_background(crowd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A region over half the image: flagged, no sampled background lies in it; as a plain object, much does."""
    head = small_head()
    region = torch.tensor([0.0, 0, 108, 60])
    targets = make_targets(1, boxes=2)
    boxes = torch.stack((region, torch.tensor([30.0, 70, 60, 100])))[None]
    flags = torch.tensor([[crowd, False]])
    targets = replace(targets, boxes=replace(targets.boxes, boxes=boxes, crowd=flags))
    anchors = []
    forward = head.rpn.forward
    monkeypatch.setattr(head.rpn, "forward", lambda *args: anchors.append(forward(*args)) or anchors[-1])
    from_anchors = drawn(heads.rpn, monkeypatch)
    samples = []
    sample = head.roi_head.sample
    monkeypatch.setattr(head.roi_head, "sample", lambda *args: samples.append(sample(*args)) or samples[-1])
    head.loss(maps(1), sizes(1), targets)

    def in_region(candidates: Tensor) -> Tensor:
        width = (candidates[:, 2].clamp(max=108) - candidates[:, 0].clamp(min=0)).clamp(min=0)
        height = (candidates[:, 3].clamp(max=60) - candidates[:, 1].clamp(min=0)).clamp(min=0)
        area = (candidates[:, 2] - candidates[:, 0]) * (candidates[:, 3] - candidates[:, 1])
        return width * height >= 0.5 * area

    index, valid, matches = from_anchors[0]
    chosen = index[valid]
    background = ~matches.positive[0, chosen]
    rois = samples[0]
    roi_background = rois.boxes[rois.valid & (rois.labels == 0)]
    counts = [int(in_region(anchors[0].anchors.boxes[chosen[background]]).sum()), int(in_region(roi_background).sum())]
    assert background.sum() > 50
    assert len(roi_background) > 50
    assert counts == [0, 0] if crowd else min(counts) > 10


def test_samples_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    head = small_head(rpn_samples=32)
    targets = make_targets(3)
    samples = []
    sample = head.roi_head.sample
    monkeypatch.setattr(head.roi_head, "sample", lambda *args: samples.append(sample(*args)) or samples[-1])
    from_anchors = drawn(heads.rpn, monkeypatch)
    size = sizes(3)
    head.loss(maps(3), size, targets)
    for image in range(3):
        boxes = one_image(targets, image).boxes
        # More room for boxes than the image needs, as in a batch with a fuller one.
        roomy = BoxTargets(
            torch.cat((boxes.boxes, torch.zeros(1, 4, 4)), dim=1),
            torch.cat((boxes.labels, torch.full((1, 4), -1)), dim=1),
            torch.cat((boxes.crowd, torch.zeros(1, 4, dtype=torch.bool)), dim=1),
            boxes.annotated,
        )
        alone = {name: level[image : image + 1] for name, level in maps(3).items()}
        head.loss(alone, one_size(size, image), Targets(targets.seeds[image : image + 1], roomy))
        assert torch.equal(from_anchors[0][0][image], from_anchors[-1][0][0])
        assert torch.equal(samples[0].labels[image], samples[-1].labels[0])
        torch.testing.assert_close(samples[0].boxes[image], samples[-1].boxes[0])
        valid = samples[0].valid[image]
        assert torch.equal(valid, samples[-1].valid[0])
        assert valid.sum() > 100


def test_anchors_in_the_padding_are_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    head = small_head()
    found = drawn(heads.rpn, monkeypatch)
    size = sizes(1)
    size = ImageSizes(size.padded, torch.tensor([[40, 60]]), size.original)
    outputs = []
    forward = head.rpn.forward
    monkeypatch.setattr(head.rpn, "forward", lambda *args: outputs.append(forward(*args)) or outputs[-1])
    head.loss(maps(1), size, make_targets(1))
    index, valid, _ = found[0]
    boxes = outputs[0].anchors.boxes[index[valid]]
    assert len(boxes) == 256
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert (centre < torch.tensor([60, 40])).all()


def test_same_loss_every_time() -> None:
    first = small_head().loss(maps(2), sizes(2), make_targets(2))
    torch.manual_seed(99)
    head = small_head()
    torch.rand(7)
    again = head.loss(maps(2), sizes(2), make_targets(2))
    other = head.loss(maps(2), sizes(2), replace(make_targets(2), seeds=torch.tensor([10, 11])))
    assert first == again
    assert first["loss_rpn_objectness"] != other["loss_rpn_objectness"]


@pytest.mark.slow
def test_bfloat16_losses_are_near_float32(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pair.photographs(6, [(128, 200), (160, 160)])
    boxes = torch.tensor([[20.0, 20, 70, 90], [60, 30, 150, 110]])
    targets = [{"boxes": boxes[: 2 - image], "labels": torch.tensor([1, 3])[: 2 - image]} for image in range(2)]
    batch, size, scaled = pair.prepare(images, targets)
    padded = pair.pad_targets(scaled, [1, 2])
    samples = []
    sample = pair.head.roi_head.sample
    monkeypatch.setattr(pair.head.roi_head, "sample", lambda *args: samples.append(sample(*args)) or samples[0])
    monkeypatch.setattr(pair.head, "test_counts", (200, 50))  # a CPU without bf16 is slow at it
    with torch.no_grad():
        features = pair.backbone(batch)
        exact = pair.head.loss(features, size, padded)
        with torch.autocast("cpu", torch.bfloat16):
            # Both score the same proposals: which ones are drawn is decided by rounding, and that is not in question.
            rounded = pair.head.loss(features, size, padded)
            found = pair.head.predict(features, size)
    assert len(samples) == 2
    for name in LOSSES:
        assert rounded[name].dtype == torch.float32
        assert rounded[name] == pytest.approx(float(exact[name]), rel=0.02), name
    assert all(one.boxes.dtype == one.scores.dtype == torch.float32 for one in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor_sizes": (32,)}, r"anchor_sizes is \(32,\); expected 5 sizes, one for each of p2, p3, p4, p5, p6"),
        ({"box_loss": "ciou"}, "box_loss is ciou; expected l1, smooth_l1 or giou"),
        ({"roi_sampling_ratio": -1}, "roi_sampling_ratio is -1; expected at least 0"),
        ({"rpn_negative_iou": 0.8}, r"rpn_negative_iou is 0\.8; expected 0 to rpn_positive_iou \(0\.7\)"),
        ({"extra_level": "p7"}, "extra_level is 'p7'"),
    ],
)
def test_bad_options_are_one_clear_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_head(**options)
    with pytest.raises(UserError, match="num_classes is 0"):
        FasterRCNN(FEATURES, 0)
    with pytest.raises(UserError, match="c4, c5 is missing"):
        FasterRCNN({name: FEATURES[name] for name in ("c2", "c3")}, 3)
