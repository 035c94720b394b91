"""The same weights in segmentation-models-pytorch's models and in our backbone and head: the same logits."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones import Backbone, FeatureSpec, UserError, build_backbone
from heads import ImageSizes, MaskTargets, SegmentationHead, Targets, heads

CLASSES = 3  # and the background

# Name of our head, its options, output stride; theirs: class and options.
CASES: dict[str, tuple[str, dict[str, Any], int, str, dict[str, Any]]] = {
    "unet": ("unet", {}, 32, "Unet", {}),
    "unet, dilated, attention": (
        "unet",
        {"attention": "scse", "interpolation": "bilinear"},
        16,
        "Unet",
        {"output_stride": 16, "decoder_attention_type": "scse", "decoder_interpolation": "bilinear"},
    ),
    "unetplusplus": ("unetplusplus", {}, 32, "UnetPlusPlus", {}),
    "deeplabv3": ("deeplabv3", {"separable": True}, 16, "DeepLabV3", {"decoder_aspp_separable": True}),
    "deeplabv3 at 8": ("deeplabv3", {"atrous_rates": (3, 6, 9)}, 8, "DeepLabV3", {"decoder_atrous_rates": (3, 6, 9)}),
    "deeplabv3plus": ("deeplabv3plus", {}, 16, "DeepLabV3Plus", {}),
    "deeplabv3plus at 8": ("deeplabv3plus", {"decoder_channels": 64}, 8, "DeepLabV3Plus", {"decoder_channels": 64}),
    "segmentation_fpn": ("segmentation_fpn", {}, 32, "FPN", {}),
    "segmentation_fpn, cat": (
        "segmentation_fpn",
        {"merge": "cat", "pyramid_channels": 64, "segmentation_channels": 64},
        32,
        "FPN",
        {"decoder_merge_policy": "cat", "decoder_pyramid_channels": 64, "decoder_segmentation_channels": 64},
    ),
    "pspnet on c3": ("pspnet", {"level": "c3"}, 32, "PSPNet", {}),
    "pspnet": ("pspnet", {}, 8, "PSPNet", {"encoder_depth": 5, "output_stride": 8, "upsampling": 8}),
}
LARGE = ("unet", "deeplabv3plus", "segmentation_fpn")


def models(case: str, network: str, dropout: float | None = None) -> tuple[nn.Module, Backbone, SegmentationHead]:
    """Theirs, our backbone and our head, with one state dict in which every layer differs from how it started."""
    import segmentation_models_pytorch as smp

    name, options, stride, their_name, their_options = CASES[case]
    if dropout is not None:
        options = {**options, "dropout": dropout}
        their_options = {**their_options, "decoder_aspp_dropout": dropout}
    if name.startswith("deeplab"):
        their_options = {**their_options, "encoder_output_stride": stride}
    torch.manual_seed(0)
    reference = getattr(smp, their_name)(network, encoder_weights=None, classes=CLASSES + 1, **their_options)
    # Theirs also dilates the first block of a stage; ours, as torchvision, gives it the dilation of the stage before.
    for stage, dilation in {32: {}, 16: {"layer4": 1}, 8: {"layer3": 1, "layer4": 2}}[stride].items():
        block = getattr(reference.encoder, stage)[0]
        entry = block.conv2 if hasattr(block, "conv3") else block.conv1
        entry.dilation = entry.padding = (dilation, dilation)
    for norm in (module for module in reference.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 1.5)
        nn.init.uniform_(norm.weight, 0.5, 1.0)
        nn.init.normal_(norm.bias, std=0.1)
    backbone = build_backbone(network, output_stride=stride)
    head = heads.build(name, backbone.features, CLASSES, **options)
    assert isinstance(head, SegmentationHead)
    state = {key: value.clone() for key, value in reference.state_dict().items()}
    body = {key.removeprefix("encoder."): state.pop(key) for key in list(state) if key.startswith("encoder.")}
    backbone.load_state_dict(body)
    head.load_state_dict(state)
    return reference, backbone, head


def batch(images: int = 2) -> tuple[Tensor, ImageSizes]:
    generator = torch.Generator().manual_seed(1)
    size = torch.tensor([[64, 96]] * images)
    return torch.randn(images, 3, 64, 96, generator=generator), ImageSizes((64, 96), size, size)


@pytest.mark.parametrize(
    ("case", "network"), [(case, "resnet18") for case in CASES] + [(case, "resnet50") for case in LARGE]
)
@torch.no_grad()
def test_logits_equal(case: str, network: str) -> None:
    reference, backbone, head = models(case, network)
    images, sizes = batch()
    expected = reference.eval()(images)
    assert expected.std() > 0.01
    found = head.eval().logits(backbone.eval()(images), sizes)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(head.scores(backbone(images), sizes), expected.softmax(dim=1), rtol=0, atol=1e-5)


def test_losses_and_gradients_equal() -> None:
    """In training, with batch statistics: cross entropy and Dice, and the gradient of every weight."""
    from segmentation_models_pytorch.losses import DiceLoss

    reference, backbone, head = models("deeplabv3plus", "resnet18", dropout=0.0)
    images, sizes = batch()
    masks = torch.randint(0, CLASSES + 1, (2, 1, 8, 12), dtype=torch.uint8).repeat_interleave(8, 2)
    masks = masks.repeat_interleave(8, 3)
    masks[0, :, 50:] = 255
    targets = Targets(torch.arange(2), masks=MaskTargets(masks, torch.tensor([True, True])))
    found = head.loss(backbone(images), sizes, targets)
    logits, truth = reference(images), masks[:, 0].long()
    expected = {
        "cross_entropy": F.cross_entropy(logits, truth, ignore_index=255),
        "dice": DiceLoss("multiclass", ignore_index=255)(logits, truth),
    }
    assert found.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, rtol=1e-5, atol=0)
    sum(found.values()).backward()
    sum(expected.values()).backward()
    own = dict(head.named_parameters()) | {f"encoder.{name}": value for name, value in backbone.named_parameters()}
    assert own.keys() == dict(reference.named_parameters()).keys()
    for name, weight in reference.named_parameters():
        largest = float(weight.grad.abs().max())
        torch.testing.assert_close(own[name].grad, weight.grad, rtol=1e-3, atol=1e-4 * largest, msg=name)
    statistics = dict(head.named_buffers())
    for name, value in reference.named_buffers():
        if not name.startswith("encoder."):
            torch.testing.assert_close(statistics[name], value, rtol=1e-4, atol=1e-5, msg=name)


def features(*strides: int, channels: int = 32, first: int = 1) -> dict[str, FeatureSpec]:
    return {f"c{index}": FeatureSpec(channels, stride) for index, stride in enumerate(strides, first)}


PLAIN = features(2, 4, 8, 16, 32)
AT_16, AT_8 = features(2, 4, 8, 16, 16), features(2, 4, 8, 8, 8)


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        *((name, PLAIN) for name in ("unet", "unetplusplus", "segmentation_fpn", "pspnet")),
        *((name, AT_16) for name in ("unet", "deeplabv3", "deeplabv3plus", "pspnet")),
        *((name, AT_8) for name in ("unet", "deeplabv3", "deeplabv3plus", "pspnet")),
        ("segmentation_fpn", features(4, 8, 16, 32, first=2)),
        ("segmentation_fpn", features(2, 4, 8, 16, first=2)),
        ("deeplabv3plus", features(4, 8, 16, 16, first=2)),
        ("deeplabv3", features(16, first=5)),
    ],
)
def test_pairs_that_fit(name: str, levels: dict[str, FeatureSpec]) -> None:
    head = heads.build(name, levels, 2)
    maps = {
        level: torch.randn(2, spec.channels, 64 // spec.stride, 96 // spec.stride) for level, spec in levels.items()
    }
    _, sizes = batch()
    scores = head.scores(maps, sizes)
    assert scores.shape == (2, 3, 64, 96)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(2, 64, 96))


@pytest.mark.parametrize(
    ("name", "levels", "message"),
    [
        ("unet", features(4, 8, 16, 32, first=2), "unet needs the levels c1, .* c1 is missing"),
        (
            "unetplusplus",
            AT_16,
            "unetplusplus .* 2, 4, 8, 16, 32; .* 2, 4, 8, 16, 16; set --backbone.output_stride 32",
        ),
        ("unetplusplus", features(4, 8, 16, 32, 64), "unetplusplus needs c1 at stride 2; the backbone gives it at 4"),
        ("segmentation_fpn", AT_16, "segmentation_fpn .* at strides 4, 8, 16, 32; .* --backbone.output_stride 32"),
        ("deeplabv3", PLAIN, "deeplabv3 needs c5 at stride 8 or 16; .* 32; set --backbone.output_stride 16"),
        ("deeplabv3plus", PLAIN, "deeplabv3plus needs c5 at stride 8 or 16; .* 32; set --backbone.output_stride 16"),
        ("deeplabv3plus", features(8, 16, 16, 16, first=2), "deeplabv3plus needs c2 at stride 4; .* gives it at 8"),
        ("deeplabv3plus", {"c5": FeatureSpec(32, 16)}, "deeplabv3plus needs the levels c2, c5; .* c2 is missing"),
        ("deeplabv3", features(2, 4), "c5 is missing"),
        ("pspnet", features(2, 4), "pspnet needs the levels c5; the backbone gives c1, c2, so c5 is missing"),
        ("pspnet", features(2, 4, 8, 16, 32, channels=30), "pspnet: level is c5; expected .* multiple of 4 .* 30"),
    ],
)
def test_pairs_that_do_not_fit(name: str, levels: dict[str, FeatureSpec], message: str) -> None:
    with pytest.raises(UserError, match=message):
        heads.build(name, levels, 2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(heads.build, "unet", decoder_channels=(8, 8)), "unet: decoder_channels is .* expected 5 numbers"),
        (
            partial(heads.build, "unetplusplus", decoder_channels=(64, 32, 16, 8, 8), attention="scse"),
            "unetplusplus: attention is scse; expected None where .* fewer than 16 channels; here one has 8",
        ),
        (
            partial(heads.build, "segmentation_fpn", segmentation_channels=40),
            "segmentation_fpn: segmentation_channels is 40; expected a multiple of 32 from 64 on",
        ),
        (partial(heads.build, "segmentation_fpn", segmentation_channels=32), "segmentation_channels is 32; .* from 64"),
    ],
)
def test_options_that_do_not_fit(build: Callable[..., object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(PLAIN, 2)
