"""The class logits that heads tell are those that their scores come from."""

import pytest
import torch
from torch import Tensor

from backbones.contract import FeatureSpec
from heads import (
    CascadeRCNN,
    Classification,
    Detections,
    FasterRCNN,
    ImageSizes,
    MaskRCNN,
    Prediction,
    SemanticMasks,
    UNet,
)
from heads.contract import LabelKind
from heads.faster_rcnn import POOLED_LEVELS

FEATURES = {f"c{level}": FeatureSpec(8, 1 << level) for level in range(1, 6)}
SIZES = ImageSizes((64, 96), torch.tensor([[64, 96], [50, 70]]), torch.tensor([[128, 192], [100, 140]]))


def features(seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(2, spec.channels, 64 // spec.stride, 96 // spec.stride, generator=random, requires_grad=True)
        for name, spec in FEATURES.items()
    }


@pytest.mark.parametrize("target", ["single", "multi", "ordinal", "regression"])
def test_of_labels(target: LabelKind) -> None:
    torch.manual_seed(0)
    head = Classification(FEATURES, 4, target=target, hidden_channels=(16,)).eval()
    maps = features()
    scores = head.scores(maps, SIZES)
    logits = torch.stack(list(head.class_logits(maps, SIZES, head.decide(scores, SIZES))))
    if target == "ordinal":
        above = scores.flip(1).cumsum(1).flip(1)  # of each class or a higher one
        torch.testing.assert_close(logits[:, 1:].sigmoid(), above[:, 1:])
        torch.testing.assert_close(logits[:, 0].sigmoid(), scores[:, 0])
    else:
        forward = {"single": logits.softmax(1), "multi": logits.sigmoid(), "regression": logits}
        torch.testing.assert_close(forward[target], scores)
    assert torch.autograd.grad(logits[0, 0], maps["c5"])[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("target", "classes", "background"),
    [("multiclass", 3, True), ("multiclass", 3, False), ("multilabel", 3, True), ("binary", 1, True)],
)
def test_of_masks(target: str, classes: int, background: bool) -> None:
    torch.manual_seed(0)
    options = {"target": target, "background": background, "decoder_channels": (16, 8, 8, 8, 8)}
    head = UNet(FEATURES, classes, **options).eval()  # type: ignore[arg-type]
    maps = features()
    logits = torch.stack(list(head.class_logits(maps, SIZES, [SemanticMasks(torch.zeros(0))] * 2)))
    assert logits.shape == (2, classes, 64, 96)
    scores = head.scores(maps, SIZES)
    if target == "multiclass":
        # A softmax keeps the differences of logits.
        scores = scores[:, -classes:].log()
        torch.testing.assert_close(logits - logits[:, :1], scores - scores[:, :1], atol=1e-4, rtol=1e-4)
    else:
        torch.testing.assert_close(logits.sigmoid(), scores)


@pytest.mark.parametrize("kind", [FasterRCNN, MaskRCNN, CascadeRCNN])
def test_of_boxes(kind: type[FasterRCNN]) -> None:
    """Of the boxes as they are, from pixels of the original image, in every image its own."""
    torch.manual_seed(0)
    head = kind(FEATURES, 4, fpn_channels=8, box_head_channels=16).eval()
    stages = head.stages if isinstance(head, CascadeRCNN) else [head.roi_head]
    for stage in stages:
        for layer in (stage.cls_score, stage.bbox_pred):
            torch.nn.init.normal_(layer.weight)
    maps = features()
    boxes = [torch.tensor([[10.0, 20, 90, 110], [0, 0, 180, 120]]), torch.tensor([[30.0, 10, 80, 90]])]
    found: list[Prediction] = [Detections(own, torch.ones(len(own)), torch.zeros(len(own)).long()) for own in boxes]
    first, second = head.class_logits(maps, SIZES, found)
    levels = [head.fpn(maps)[name] for name in POOLED_LEVELS]
    halves, image = torch.cat(boxes) / 2, torch.tensor([0, 0, 1])
    expected = torch.stack([stage(levels, halves, image)[0] for stage in stages]).mean(0)
    torch.testing.assert_close(torch.cat((first, second)), expected[:, 1:])
    assert first.shape == (2, 4)
    assert torch.autograd.grad(second.sum(), maps["c3"])[0][0].abs().sum() == 0  # nothing of the other image


@pytest.mark.parametrize("kind", [FasterRCNN, CascadeRCNN])
def test_of_no_boxes(kind: type[FasterRCNN]) -> None:
    head = kind(FEATURES, 4, fpn_channels=8, box_head_channels=16).eval()
    none: list[Prediction] = [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())] * 2
    assert [logits.shape for logits in head.class_logits(features(), SIZES, none)] == [(0, 4), (0, 4)]
