"""torchvision's detectors, made to give varied numbers without training, and our heads on the same weights."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from backbones.contract import Backbone, FeatureSpec
from backbones.weights_file import WeightsFile
from heads import BoxTargets, FasterRCNN, ImageSizes, MaskRCNN, Outlines, Targets
from heads.detector_layouts import split_detector

CLASSES = 4
FEATURES = {f"c{level}": FeatureSpec(64 << level, 1 << level) for level in range(2, 6)}


class Body(Backbone):
    """The backbone of a torchvision detector behind our contract, sharing its parameters."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.features = FEATURES
        self.in_channels = 3
        self.body = body

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = list(self.body(images).values())  # up to C5, from C2 or C3 on
        return {f"c{6 - len(maps) + number}": level for number, level in enumerate(maps)}


def pack_outlines(masks: list[Tensor], most: int, padded: tuple[int, int]) -> Outlines:
    """Masks (N, H, W) of each image as outlines of a padded batch, all known."""
    drawn = np.zeros((len(masks), most, *padded), np.uint8)
    known = torch.zeros(len(masks), most, dtype=torch.bool)
    for image, own in enumerate(masks):
        drawn[image, : len(own), : own.shape[1], : own.shape[2]] = own
        known[image, : len(own)] = True
    return Outlines(torch.from_numpy(np.packbits(drawn, axis=-1)), known)


def pad_targets(targets: list[dict[str, Tensor]], seeds: list[int], padded: tuple[int, int] | None = None) -> Targets:
    """torchvision's targets (labels from 1) as ours (labels from 0), padded; with their masks if `padded` is given."""
    most = max(len(target["labels"]) for target in targets)
    boxes = torch.zeros(len(targets), most, 4)
    labels = torch.full((len(targets), most), -1)
    for image, target in enumerate(targets):
        boxes[image, : len(target["boxes"])] = target["boxes"]
        labels[image, : len(target["labels"])] = target["labels"] - 1
    crowd = torch.zeros(labels.shape, dtype=torch.bool)
    outlines = None if padded is None else pack_outlines([target["masks"] for target in targets], most, padded)
    annotated = torch.ones(len(targets), dtype=torch.bool)
    return Targets(torch.tensor(seeds), BoxTargets(boxes, labels, crowd, annotated, outlines))


def photographs(seed: int, sizes: list[tuple[int, int]]) -> list[Tensor]:
    """Smooth random images (3, H, W), 0 to 1: features of pure noise are everywhere alike."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [torch.rand(1, 3, height // 8, width // 8, generator=generator) for height, width in sizes]
    return [
        nn.functional.interpolate(image, size, mode="bicubic").clamp(0, 1)[0]
        for image, size in zip(coarse, sizes, strict=True)
    ]


@dataclass
class Pair:
    """One set of weights in two detectors."""

    reference: torchvision.models.detection.FasterRCNN
    backbone: Body
    head: FasterRCNN

    pad_targets = staticmethod(pad_targets)
    photographs = staticmethod(photographs)

    def prepare(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[Tensor, ImageSizes, list[dict[str, Tensor]] | None]:
        """Images as torchvision normalises, resizes and pads them, and the targets scaled alike."""
        batch: ImageList
        batch, scaled = self.reference.transform(images, targets)
        original = torch.tensor([image.shape[-2:] for image in images])
        height, width = batch.tensors.shape[-2:]
        return batch.tensors, ImageSizes((height, width), torch.tensor(batch.image_sizes), original), scaled


def shake_norms(body: nn.Module) -> None:
    """Give norms statistics of real activations, then shake them: every layer's affine differs from the identity."""
    norms = [module for module in body.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    body.train()(torch.stack(photographs(1, [(128, 160)] * 4)) * 4 - 2)
    for norm in norms:
        norm.running_mean += 0.1 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt()
        norm.running_var *= 0.8 + 0.4 * torch.rand_like(norm.running_var)
        norm.weight.mul_(0.8 + 0.4 * torch.rand_like(norm.weight))
        norm.bias.add_(0.1 * torch.randn_like(norm.bias))


def spread(model: nn.Module, deviations: dict[nn.Module, float]) -> None:
    """Give the outputs of random layers mean zero and these deviations, so that their order is more than rounding."""
    seen: dict[nn.Module, list[Tensor]] = {layer: [] for layer in deviations}
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: seen[layer].append(output.movedim(1, -1).flatten(0, -2)))
        for layer in deviations
    ]
    model(photographs(2, [(128, 160), (160, 128)]))
    for hook in hooks:
        hook.remove()
    for layer, deviation in deviations.items():
        outputs = torch.cat(seen[layer])
        scale = deviation / outputs.std(dim=0)
        layer.weight *= scale.view(-1, *[1] * (layer.weight.dim() - 1))
        layer.bias.copy_((layer.bias - outputs.mean(dim=0)) * scale)


@pytest.fixture(scope="session")
def pair() -> Pair:
    """`fasterrcnn_resnet50_fpn` and our head."""
    return paired(torchvision.models.detection.fasterrcnn_resnet50_fpn, FasterRCNN, 300)


@pytest.fixture(scope="session")
def mask_pair() -> Pair:
    """`maskrcnn_resnet50_fpn` and our head."""
    return paired(torchvision.models.detection.maskrcnn_resnet50_fpn, MaskRCNN, 40)


def paired(
    build: Callable[..., torchvision.models.detection.FasterRCNN], head_type: type[FasterRCNN], detections: int
) -> Pair:
    """A model of torchvision's with random weights in eval mode, frozen statistics, and scores that spread."""
    torch.manual_seed(0)
    reference = build(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES + 1,
        min_size=128,
        max_size=224,
        box_score_thresh=0.05,
        box_detections_per_img=detections,
    )
    with torch.no_grad():
        shake_norms(reference.backbone.body)
        reference.eval()
        spread(reference, {reference.rpn.head.cls_logits: 3.0, reference.rpn.head.bbox_pred: 0.3})
        predictor = reference.roi_heads.box_predictor
        spread(reference, {predictor.cls_score: 2.0, predictor.bbox_pred: 1.0})
        if head_type is MaskRCNN:
            spread(reference, {reference.roi_heads.mask_predictor.mask_fcn_logits: 2.0})
    head = head_type(FEATURES, CLASSES, score_threshold=0.05, detections_per_image=detections)
    body = reference.backbone.body.state_dict()
    parts = split_detector(WeightsFile(reference.state_dict()), body, range(1, CLASSES + 1), class_agnostic=False)
    head.load_state_dict(parts.head)
    return Pair(reference, Body(reference.backbone.body), head.eval())
