"""The same weights in torchvision's one-stage detectors and in ours: the same detections, losses and gradients."""

from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from backbones.weights_file import WeightsFile
from heads import FCOS, ImageSizes, RetinaNet
from heads.one_stage_layouts import TORCHVISION_FCOS, TORCHVISION_RETINANET, split_one_stage
from tests.heads.conftest import CLASSES, FEATURES, Body, pad_targets, photographs, shake_norms, spread

SIZES = [(150, 200), (170, 120), (128, 128)]
COMPARED = 200  # detections an image: among more, some scores differ by no more than rounding
LOSSES = {"loss_classification": "classification", "loss_box": "bbox_regression", "loss_centerness": "bbox_ctrness"}
FEW = {"weights": None, "weights_backbone": None, "num_classes": CLASSES + 1, "min_size": 128, "max_size": 224}


@dataclass
class Pair:
    """One set of weights in two detectors."""

    reference: nn.Module
    backbone: Body
    head: RetinaNet | FCOS

    def prepare(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[Tensor, ImageSizes, list[dict[str, Tensor]] | None]:
        """Images as torchvision normalises, resizes and pads them, and the targets scaled alike."""
        batch: ImageList
        batch, scaled = self.reference.transform(images, targets)
        original = torch.tensor([image.shape[-2:] for image in images])
        height, width = batch.tensors.shape[-2:]
        return batch.tensors, ImageSizes((height, width), torch.tensor(batch.image_sizes), original), scaled


def paired(reference: nn.Module, head: RetinaNet | FCOS) -> Pair:
    layout = TORCHVISION_FCOS if isinstance(head, FCOS) else TORCHVISION_RETINANET
    with torch.no_grad():
        shake_norms(reference.backbone.body)
        reference.eval()
        regression = reference.head.regression_head
        outputs = {reference.head.classification_head.cls_logits: 1.0, regression.bbox_reg: 0.3}
        if layout is TORCHVISION_FCOS:
            outputs |= {regression.bbox_reg: 1.0, regression.bbox_ctrness: 1.0}
        spread(reference, outputs)
        if layout is TORCHVISION_FCOS:
            regression.bbox_reg.bias += 2  # distances are not negative
        # Its class of background, which we do not have, never scores, as after training.
        layer = reference.head.classification_head.cls_logits
        layer.weight.unflatten(0, (-1, CLASSES + 1))[:, 0] = 0
        layer.bias.unflatten(0, (-1, CLASSES + 1))[:, 0] = -20
    body = Body(reference.backbone.body)
    state = WeightsFile(reference.state_dict())
    parts = split_one_stage(state, body.body.state_dict(), head.state_dict(), range(1, CLASSES + 1), layout)
    head.load_state_dict(parts.head)
    return Pair(reference, body, head.eval())


@pytest.fixture(scope="module", params=["retinanet", "retinanet_v2", "fcos"])
def pair(request: pytest.FixtureRequest) -> Pair:
    torch.manual_seed(0)
    models = torchvision.models.detection
    same = {"score_threshold": 0.3, "detections_per_image": 3000}
    few = {**FEW, "score_thresh": 0.3, "detections_per_img": 3000}
    if request.param == "retinanet":
        return paired(models.retinanet_resnet50_fpn(**few), RetinaNet(FEATURES, CLASSES, **same))
    if request.param == "fcos":
        return paired(models.fcos_resnet50_fpn(**few), FCOS(FEATURES, CLASSES, nms_iou=0.6, **same))
    head = RetinaNet(FEATURES, CLASSES, extra_level="c5", tower_norm="gn", box_loss="giou", **same)
    return paired(models.retinanet_resnet50_fpn_v2(**few), head)


@torch.no_grad()
def test_detections_equal(pair: Pair) -> None:
    images = photographs(3, SIZES)
    expected = pair.reference(images)
    batch, sizes, _ = pair.prepare(images)
    found = pair.head.predict(pair.backbone(batch), sizes)
    for ours, theirs in zip(found, expected, strict=True):
        # It keeps boxes that lie outside the image but for an edge.
        kept = (theirs["boxes"][:, 2:] - theirs["boxes"][:, :2]).amin(dim=1) > 1e-2
        assert len(ours.boxes) == int(kept.sum()) > COMPARED
        assert torch.equal(ours.labels[:COMPARED], theirs["labels"][kept][:COMPARED] - 1)
        torch.testing.assert_close(ours.boxes[:COMPARED], theirs["boxes"][kept][:COMPARED], rtol=0, atol=1e-3)
        torch.testing.assert_close(ours.scores[:COMPARED], theirs["scores"][kept][:COMPARED], rtol=0, atol=1e-5)
    assert set(torch.cat([ours.labels for ours in found]).tolist()) == {0, 1, 2, 3}


def random_targets(seed: int) -> list[dict[str, Tensor]]:
    """Boxes of many sizes in each image of SIZES, none in the second."""
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for (height, width), count in zip(SIZES, (12, 0, 3), strict=True):
        size = torch.tensor([width, height])
        corner = torch.rand(count, 2, generator=generator) * 0.5 * size
        sides = (0.05 + 0.45 * torch.rand(count, 1, generator=generator) ** 2) * size
        labels = torch.randint(1, CLASSES + 1, (count,), generator=generator)
        targets.append({"boxes": torch.cat((corner, corner + sides), dim=1), "labels": labels})
    return targets


def test_losses_and_gradients_equal(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same maps of the backbone, which gradients are compared of."""
    images, targets = photographs(5, SIZES), random_targets(0)
    batch, sizes, scaled = pair.prepare(images, targets)
    with torch.no_grad():
        maps = {name: level.detach() for name, level in pair.backbone(batch).items()}
    for level in maps.values():
        level.requires_grad_()
    losses = pair.head.loss(maps, sizes, pad_targets(scaled, [7, 8, 9]))
    gradients = torch.autograd.grad(sum(losses.values()), list(maps.values()))

    pyramid = pair.head.fpn(maps)
    generator = pair.head.cells if isinstance(pair.head, FCOS) else pair.head.anchors
    anchors = generator(sizes.padded, [(level.shape[-2], level.shape[-1]) for level in pyramid.values()])
    ignored = ~anchors.inside(sizes.valid)
    assert ignored.any()

    def without_padding(module: nn.Module, inputs: tuple[list[Tensor]], outputs: dict[str, Tensor]) -> None:
        # Where it is sure of background, its loss is zero: so it leaves out what we do.
        outputs["cls_logits"] = outputs["cls_logits"].masked_fill(ignored[..., None], -1e4)

    hook = pair.reference.head.register_forward_hook(without_padding)
    monkeypatch.setattr(pair.reference.backbone.body, "forward", lambda _: OrderedDict(maps))
    pair.reference.train()
    expected = pair.reference(images, targets)
    pair.reference.eval()
    hook.remove()
    assert len(losses) == len(expected)
    for name, loss in losses.items():
        assert loss > 1e-3
        torch.testing.assert_close(loss, expected[LOSSES[name]], rtol=1e-5, atol=0)
    wanted = torch.autograd.grad(sum(expected.values()), list(maps.values()))
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))
