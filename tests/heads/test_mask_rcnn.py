"""What the mask branch promises on its own; that its numbers are right is shown against torchvision in test_parity."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes

from backbones.errors import UserError
from heads import BoxTargets, Detections, MaskRCNN, Outlines, Targets
from heads import heads as registry
from heads.mask_head import crop_outlines, unpack_bits
from tasks.config import MaskRCNNConfig
from tasks.prediction.from_torch import boxes_in
from tests.heads.test_faster_rcnn import FEATURES, LOSSES, make_targets, maps, one_size, sizes

SMALL = {"fpn_channels": 8, "box_head_channels": 16, "anchor_sizes": (8, 16, 32, 64, 128), "mask_channels": 8}


def small_head(**options: object) -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(FEATURES, 3, **{**SMALL, **options})


def instances(images: int, boxes: int = 3) -> Targets:
    """Targets whose outlines are the left halves of their boxes."""
    targets = make_targets(images, boxes)
    assert targets.boxes is not None
    drawn = np.zeros((images, boxes, 128, 128), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(drawn.reshape(-1, 128, 128), targets.boxes.boxes.view(-1, 4), strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x1 + x2) // 2] = 1
    outlines = Outlines(torch.from_numpy(np.packbits(drawn, axis=-1)), torch.ones(images, boxes, dtype=torch.bool))
    return replace(targets, boxes=replace(targets.boxes, outlines=outlines))


def changed(targets: Targets, **boxes: object) -> Targets:
    assert targets.boxes is not None
    return replace(targets, boxes=replace(targets.boxes, **boxes))


def test_registered_and_documented_as_configured() -> None:
    assert registry.factory("mask_rcnn") is MaskRCNN
    parameters = inspect.signature(MaskRCNN).parameters
    options = {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert options == MaskRCNNConfig().model_dump(exclude={"name"})
    for name in options.keys() & inspect.signature(MaskRCNN.__init__).parameters.keys():
        assert f"\n    {name}: " in (inspect.getdoc(MaskRCNN) or ""), name
    with pytest.raises(UserError, match=r"mask_size.*it takes mask_rcnn\(.*mask_convs.*nms_iou"):
        registry.build("mask_rcnn", FEATURES, 3, mask_size=28)


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_it_learns_and_predicts(class_agnostic: bool) -> None:
    head = small_head(mask_class_agnostic=class_agnostic, mask_roi_size=7, score_threshold=0.0)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9)
    history = []
    for _ in range(12):
        losses = head.loss(maps(2), sizes(2), instances(2))
        assert list(losses) == [*LOSSES, "loss_mask"]
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert all(weight.grad.isfinite().all() for weight in head.parameters())
        optimizer.step()
        history.append(float(losses["loss_mask"].detach()))
    assert history[0] == pytest.approx(np.log(2), abs=0.02)  # undecided at first
    assert history[-1] < 0.96 * history[0]
    for image, found in enumerate(head.predict(maps(2), sizes(2))):
        assert isinstance(found, Detections)
        assert found.masks is not None
        assert found.masks.shape == (100, 14, 14)
        assert found.masks.dtype == torch.float32
        assert 0 <= found.masks.min() < found.masks.max() <= 1
        assert found.image_size == tuple(sizes(2).original[image].tolist())


@pytest.mark.parametrize("case", ["no outlines", "no known outline", "no boxes", "unannotated", "no targets"])
def test_nothing_to_draw(case: str) -> None:
    targets = {
        "no outlines": make_targets(2),
        "no known outline": changed(instances(2), outlines=Outlines(_bits(), torch.zeros(2, 3, dtype=torch.bool))),
        "no boxes": instances(2, 0),
        "unannotated": changed(instances(2), annotated=torch.zeros(2, dtype=torch.bool)),
        "no targets": replace(instances(2), boxes=None),
    }[case]
    head = small_head()
    losses = head.loss(maps(2), sizes(2), targets)
    assert losses["loss_mask"] == 0
    assert (losses["loss_roi_box"] > 0) == case.endswith("outlines") or case == "no known outline"
    sum(losses.values()).backward()
    for name, weight in head.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert not name.startswith("mask_head") or not weight.grad.any(), name


def _bits() -> Tensor:
    return torch.zeros(2, 3, 128, 16, dtype=torch.uint8)


def test_an_object_without_an_outline_teaches_boxes_alone() -> None:
    """What its bits say makes no difference; the other losses do not know of outlines."""
    targets = instances(2)
    assert targets.boxes is not None
    assert targets.boxes.outlines is not None
    known = torch.tensor([[True, False, True], [True, True, False]])
    bits = targets.boxes.outlines.bits
    one = small_head().loss(maps(2), sizes(2), changed(targets, outlines=Outlines(bits, known)))
    other_bits = torch.where(known[..., None, None], bits, 255)
    other = small_head().loss(maps(2), sizes(2), changed(targets, outlines=Outlines(other_bits, known)))
    full = small_head().loss(maps(2), sizes(2), targets)
    assert one == other
    assert one["loss_mask"] != full["loss_mask"]
    assert all(one[name] == full[name] for name in LOSSES)


def test_the_mask_loss_does_not_depend_on_the_batch() -> None:
    """Summed over samples, images alone and together give the same."""
    targets = instances(2)
    boxes = targets.boxes
    assert boxes is not None
    assert boxes.outlines is not None
    sums: list[tuple[Tensor, Tensor]] = []
    head = small_head()
    loss_sum = head.mask_head.loss_sum
    head.mask_head.loss_sum = lambda *args: sums.append(loss_sum(*args)) or sums[-1]  # type: ignore[method-assign, func-returns-value]
    head.loss(maps(2), sizes(2), targets)
    for image in range(2):
        one = slice(image, image + 1)
        outlines = Outlines(boxes.outlines.bits[one], boxes.outlines.known[one])
        parts = BoxTargets(boxes.boxes[one], boxes.labels[one], boxes.crowd[one], boxes.annotated[one], outlines)
        alone = {name: level[one] for name, level in maps(2).items()}
        head.loss(alone, one_size(sizes(2), image), Targets(targets.seeds[one], parts))
    assert sums[0][1] == sums[1][1] + sums[2][1] > 5
    torch.testing.assert_close(sums[0][0], sums[1][0] + sums[2][0], rtol=1e-5, atol=0)


@pytest.mark.parametrize("width", [61, 64])
@pytest.mark.parametrize("max_pixels", [1, 5000, 1 << 24])
def test_targets_are_those_of_torchvision(width: int, max_pixels: int) -> None:
    generator = torch.Generator().manual_seed(3)
    masks = (torch.rand(2, 4, 50, width, generator=generator) > 0.5).to(torch.uint8)
    bits = torch.from_numpy(np.packbits(masks.numpy(), axis=-1))
    assert torch.equal(unpack_bits(bits)[..., :width], masks)
    corner = torch.rand(30, 2, generator=generator) * 40 - 5  # some reach out of the image
    boxes = torch.cat((corner, corner + torch.rand(30, 2, generator=generator) * 30), dim=1)
    objects = torch.randint(0, 8, (30,), generator=generator)
    found = crop_outlines(Outlines(bits, masks[..., 0, 0] >= 0), objects, boxes, 28, max_pixels)
    padded = torch.nn.functional.pad(masks, (0, bits.shape[-1] * 8 - width))
    expected = project_masks_on_boxes(padded.flatten(0, 1), boxes, objects, 28)
    torch.testing.assert_close(found, expected)
    assert crop_outlines(Outlines(bits, masks[..., 0, 0] >= 0), objects[:0], boxes[:0], 28).shape == (0, 28, 28)


def test_pasted_as_torchvision_does() -> None:
    """Boxes of every size, out of the image and without area too."""
    generator = torch.Generator().manual_seed(4)
    end = torch.rand(60, 2, generator=generator) * torch.tensor([95, 75]) + 5
    boxes = torch.cat((end - torch.rand(60, 2, generator=generator) ** 3 * 90, end), dim=1)
    boxes[0] = torch.tensor([0.0, 0, 100, 80])
    boxes[1, :2] = boxes[1, 2:] = 40
    boxes[2] = torch.tensor([90.0, 60, 150, 120])
    cells = torch.rand(60, 28, 28, generator=generator)
    whole = paste_masks_in_image(cells[:, None], boxes, (80, 100))[:, 0] > 0.5
    found = Detections(boxes, torch.ones(60), torch.zeros(60).long(), cells, (80, 100))
    pasted = list(boxes_in(found).masks())
    assert torch.equal(torch.from_numpy(np.stack(pasted)), whole.to(torch.uint8))
    assert all(mask.flags.f_contiguous for mask in pasted)
    beside = replace(found, boxes=torch.tensor([[-50.0, -50, -40, -40], [110, 10, 120, 20]]), masks=cells[:2])
    assert not any(mask.any() for mask in boxes_in(beside).masks())
    with pytest.raises(ValueError, match="have no masks"):
        next(boxes_in(replace(found, masks=None)).masks())


@torch.no_grad()
def test_bfloat16_stays_float32_where_it_matters() -> None:
    head = small_head(score_threshold=0.0)
    exact = head.loss(maps(1), sizes(1), instances(1))["loss_mask"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = head.loss(maps(1), sizes(1), instances(1))["loss_mask"]
        (found,) = head.predict(maps(1), sizes(1))
    assert rounded.dtype == torch.float32
    assert rounded == pytest.approx(float(exact), rel=0.02)
    assert isinstance(found, Detections)
    assert found.masks is not None
    assert found.masks.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_roi_size": 0}, "mask_rcnn: mask_roi_size is 0; expected at least 1"),
        ({"mask_convs": -1}, "mask_rcnn: mask_convs is -1; expected at least 0"),
        ({"box_loss": "ciou"}, "mask_rcnn: box_loss is ciou"),
    ],
)
def test_bad_options_are_one_clear_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_head(**options)
