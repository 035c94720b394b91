"""What every segmentation head promises; that decoders and losses are right is shown in the other two files."""

import ast
import inspect
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation.fcn import FCNHead

from backbones import Backbone, FeatureSpec, UserError, build_backbone
from heads import ImageSizes, MaskTargets, SegmentationHead, Targets, heads
from heads.contract import IGNORED
from heads.segmentation import SingleValueBatchNorm, fcn_head
from tasks import config as configs

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"decoder_channels": (16, 8, 8, 8, 8)},
    "unetplusplus": {"decoder_channels": (16, 8, 8, 8, 8)},
    "deeplabv3": {"decoder_channels": 16},
    "deeplabv3plus": {"decoder_channels": 16},
    "segmentation_fpn": {"pyramid_channels": 32, "segmentation_channels": 64},
    "pspnet": {"decoder_channels": 16},
}
CONFIGS = {
    "unet": configs.UNetConfig,
    "unetplusplus": configs.UNetPlusPlusConfig,
    "deeplabv3": configs.DeepLabV3Config,
    "deeplabv3plus": configs.DeepLabV3PlusConfig,
    "segmentation_fpn": configs.SegmentationFPNConfig,
    "pspnet": configs.PSPNetConfig,
}
ALL_LOSSES = {"cross_entropy": 1.0, "dice": 1.0, "focal": 1.0, "tversky": 1.0, "lovasz": 1.0, "boundary": 1.0}
FEATURES = {f"c{level}": FeatureSpec(8, 1 << level) for level in range(1, 6)}


def pair(name: str, classes: int = 2, **options: object) -> tuple[Backbone, SegmentationHead]:
    torch.manual_seed(0)
    stride = 16 if name.startswith("deeplab") else 32
    backbone = build_backbone("resnet18", norm="gn", output_stride=stride)
    head = heads.build(name, backbone.features, classes, **SMALL[name], **options)
    assert isinstance(head, SegmentationHead)
    return backbone, head


def small(classes: int = 2, **options: object) -> SegmentationHead:
    """The cheapest head, on `maps`."""
    torch.manual_seed(0)
    head = heads.build("pspnet", FEATURES, classes, level="c3", decoder_channels=8, **options)
    assert isinstance(head, SegmentationHead)
    return head


def maps(images: int = 2, side: int = 64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(images, spec.channels, side // spec.stride, side // spec.stride, generator=generator)
        for name, spec in FEATURES.items()
    }


def sizes(images: int = 2, side: int = 64) -> ImageSizes:
    """Odd valid parts and originals, all different."""
    valid = torch.tensor([[side - 3 - 4 * image, side - 27 + 2 * image] for image in range(images)])
    return ImageSizes((side, side), valid, torch.tensor([[75, 49], [31, 90]])[:images])


def targets(images: int = 2, side: int = 64, planes: int = 1, classes: int = 2) -> Targets:
    generator = torch.Generator().manual_seed(2)
    most = classes if planes == 1 else 1
    coarse = torch.randint(0, most + 1, (images, planes, side // 8, side // 8), generator=generator).to(torch.uint8)
    masks = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
    for mask, (height, width) in zip(masks, sizes(images, side).valid.tolist(), strict=True):
        mask[:, height:] = IGNORED
        mask[:, :, width:] = IGNORED
    return Targets(torch.arange(images), masks=MaskTargets(masks, torch.ones(images, dtype=torch.bool)))


@pytest.mark.parametrize("name", SMALL)
def test_registered_and_documented_as_configured(name: str) -> None:
    factory = heads.factory(name)
    parameters = inspect.signature(factory).parameters
    options = {key: p.default for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert list(parameters) == ["features", "num_classes", *options]
    configured = CONFIGS[name]().model_dump(exclude={"name"})
    configured["losses"] = {loss: weight for loss, weight in configured["losses"].items() if weight}
    assert options == configured
    documented = f"{inspect.getdoc(factory)}\n{inspect.getdoc(SegmentationHead)}"
    for key in ("features", "num_classes", *options):
        assert f"\n    {key}: " in documented, key


def test_wrong_option_shows_all_options() -> None:
    with pytest.raises(UserError, match=r"head 'unet': got an unexpected keyword argument 'decoder'; .*interp.*loss"):
        heads.build("unet", FEATURES, 2, decoder=3)


def test_registered_without_loading_the_decoders() -> None:
    """The library takes seconds to import, so modules that register only import it when a head is built."""
    for name in SMALL:
        for module in {heads.factory(name).__module__, SegmentationHead.__module__}:
            imports = [n for n in ast.parse(Path(sys.modules[module].__file__).read_text()).body if "Import" in str(n)]
            assert imports
            assert not any("segmentation_models_pytorch" in ast.unparse(statement) for statement in imports)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("name", SMALL)
def test_every_head_steps(name: str, images: int) -> None:
    """Two steps and a prediction, of odd sizes, for one image a batch as well."""
    backbone, head = pair(name, losses=ALL_LOSSES, auxiliary_weight=0.4)
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=1e-4)
    batch = torch.randn(images, 3, 64, 64)
    history = []
    for _ in range(2):
        torch.manual_seed(3)
        losses = head.loss(backbone(batch), sizes(images), targets(images))
        assert list(losses) == [*ALL_LOSSES, *(f"aux_{loss}" for loss in ALL_LOSSES)]
        assert all(loss.shape == () and loss.dtype == torch.float32 and loss > 0 for loss in losses.values())
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        for key, weight in head.named_parameters():
            assert weight.grad.isfinite().all(), key
            assert weight.grad.any() or key.startswith("decoder.psp.blocks"), key
        optimizer.step()
        history.append(float(total.detach()))
    assert history[1] < history[0]
    for training in (True, False):
        found = head.train(training).predict(backbone(batch), sizes(images))
        assert [list(image.masks.shape) for image in found] == [[1, *size] for size in sizes(images).original.tolist()]
        assert all(image.masks.dtype == torch.uint8 and image.masks.max() <= 2 for image in found)


@pytest.mark.parametrize("name", SMALL)
def test_smallest_batch(name: str) -> None:
    """One image of 32 pixels: c5 is a single cell at stride 32."""
    backbone, head = pair(name)
    losses = head.loss(backbone(torch.randn(1, 3, 32, 32)), sizes(1, 32), targets(1, 32))
    sum(losses.values()).backward()
    assert all(weight.grad.isfinite().all() for weight in head.parameters())


def test_batch_norm_of_single_values() -> None:
    norm, plain = SingleValueBatchNorm(3), nn.BatchNorm2d(3)
    for layer in (norm, plain):
        torch.manual_seed(0)
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    one = torch.randn(1, 3, 1, 1)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    alone = norm(one)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert torch.equal(alone, plain.eval()(one))
    for shape in ((2, 3, 1, 1), (1, 3, 1, 2)):
        many = torch.randn(shape)
        assert torch.equal(norm(many), plain.train()(many))
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize("name", SMALL)
def test_state_dict_round_trip(name: str) -> None:
    backbone, head = pair(name, auxiliary_weight=0.4, class_weights=(1.0, 2.0, 3.0))
    head.loss(backbone(torch.randn(2, 3, 64, 64)), sizes(), targets())
    state = head.state_dict()
    assert {key.split(".")[0] for key in state} == {"decoder", "segmentation_head", "auxiliary"}
    other = heads.build(name, backbone.features, 2, **SMALL[name], auxiliary_weight=0.4)
    levels = backbone(torch.randn(2, 3, 64, 64))
    assert not torch.equal(other.eval().scores(levels, sizes()), head.eval().scores(levels, sizes()))
    other.load_state_dict(state)
    assert torch.equal(other.scores(levels, sizes()), head.scores(levels, sizes()))


@pytest.mark.parametrize(
    ("options", "classes", "planes", "channels"),
    [
        ({}, 2, 1, 3),
        ({"background": False}, 2, 1, 2),
        ({"target": "binary"}, 1, 1, 1),
        ({"target": "multilabel"}, 2, 2, 2),
        ({"target": "multilabel"}, 1, 1, 1),
    ],
)
def test_targets(options: dict[str, object], classes: int, planes: int, channels: int) -> None:
    head = small(classes, losses=ALL_LOSSES, **options).eval()
    scores = head.scores(maps(), sizes())
    assert scores.shape == (2, channels, 64, 64)
    assert scores.dtype == torch.float32
    assert scores.min() >= 0
    assert scores.max() <= 1
    if options.get("target", "multiclass") == "multiclass":
        torch.testing.assert_close(scores.sum(dim=1), torch.ones(2, 64, 64))
    losses = head.loss(maps(), sizes(), targets(planes=planes, classes=classes))
    assert all(loss > 0 for loss in losses.values())
    found = head.decide(scores, sizes())
    assert [tuple(image.masks.shape) for image in found] == [(planes, 75, 49), (planes, 31, 90)]
    lowest = 1 if options.get("background") is False else 0
    highest = classes if planes == 1 else 1
    values = torch.cat([image.masks.flatten() for image in found]).unique().tolist()
    assert set(values) <= set(range(lowest, highest + 1))


def test_decision_is_that_of_resized_scores() -> None:
    """The valid part alone, enlarged between the centres of its pixels: padding does not bleed in."""
    scores = torch.zeros(1, 3, 8, 8)
    scores[:, 0, :4, :2] = 1.0
    scores[:, 1, :4, 2:4] = 0.9
    scores[:, 2, 4:] = scores[:, 2, :, 4:] = 50.0
    image = ImageSizes((8, 8), torch.tensor([[4, 4]]), torch.tensor([[8, 80]]))
    mask = small().decide(scores, image)[0].masks
    expected = torch.zeros(1, 8, 80, dtype=torch.uint8)
    # Between columns 1 and 2, whose centres lie at 29.5 and 49.5, 1 - x equals 0.9 x at 10.53 pixels from the first.
    expected[..., 41:] = 1
    assert torch.equal(mask, expected)
    same = ImageSizes((8, 8), torch.tensor([[4, 4]]), torch.tensor([[4, 4]]))
    assert torch.equal(
        small(background=False, classes=3).decide(scores, same)[0].masks[0, 0], torch.tensor([1, 1, 2, 2])
    )


@pytest.mark.parametrize(("target", "classes"), [("binary", 1), ("multilabel", 3)])
def test_threshold(target: str, classes: int) -> None:
    scores = torch.tensor([0.2, 0.6, 0.61, 0.9]).expand(1, classes, 4, 4)
    image = ImageSizes((4, 4), torch.tensor([[4, 4]]), torch.tensor([[4, 4]]))
    masks = small(classes, target=target, threshold=0.6).decide(scores, image)[0].masks
    assert torch.equal(masks, torch.tensor([0, 0, 1, 1], dtype=torch.uint8).expand(classes, 4, 4))


def test_images_that_are_not_annotated_add_nothing() -> None:
    head = small(losses=ALL_LOSSES, auxiliary_weight=0.4).eval()
    given = targets()
    half = replace(given, masks=replace(given.masks, annotated=torch.tensor([True, False])))
    first = Targets(given.seeds[:1], masks=MaskTargets(given.masks.masks[:1], torch.tensor([True])))
    both = head.loss(maps(), sizes(), half)
    alone = head.loss({name: level[:1] for name, level in maps().items()}, sizes(1), first)
    for name, loss in alone.items():
        torch.testing.assert_close(both[name], loss, msg=name)
    nobody = replace(given, masks=replace(given.masks, annotated=torch.tensor([False, False])))
    for nothing in (nobody, replace(given, masks=None)):
        head.zero_grad()
        losses = head.loss(maps(), sizes(), nothing)
        assert losses.keys() == both.keys()
        assert not any(losses.values())
        sum(losses.values()).backward()
        assert not any(weight.grad.any() for weight in head.parameters())


def test_auxiliary_head() -> None:
    plain, helped = small(), small(auxiliary_weight=0.4)
    assert helped.auxiliary_level == "c2"
    assert pair("unet", auxiliary_weight=0.4)[1].auxiliary_level == "c4"
    helped.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(plain.eval().scores(maps(), sizes()), helped.eval().scores(maps(), sizes()))
    expected, found = (head.loss(maps(), sizes(), targets()) for head in (plain, helped))
    assert list(found) == ["cross_entropy", "dice", "aux_cross_entropy", "aux_dice"]
    assert all(found[name] == loss for name, loss in expected.items())
    coarse = F.interpolate(helped.auxiliary(maps()["c2"]), (64, 64), mode="bilinear")
    truth = targets().masks.masks[:, 0].long()
    loss = F.cross_entropy(coarse, truth, ignore_index=IGNORED)
    torch.testing.assert_close(found["aux_cross_entropy"], 0.4 * loss)


@torch.no_grad()
def test_auxiliary_head_equals_torchvision() -> None:
    ours, theirs = fcn_head(16, 5).eval(), FCNHead(16, 5).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 16, 5, 7)
    assert torch.equal(ours(x), theirs(x))


def test_logits_are_interpolated_in_float32() -> None:
    head = small().eval()
    with torch.autocast("cpu", torch.bfloat16):
        logits = head.logits(maps(), sizes())
        losses = head.loss(maps(), sizes(), targets())
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
    expected = head.loss(maps(), sizes(), targets())
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[name], rtol=0.03, atol=0)


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (2, {"target": "binary"}, "pspnet: target is binary; expected multiclass or multilabel for 2 classes"),
        (2, {"target": "other"}, "target is other; expected one of multiclass, binary, multilabel"),
        (255, {}, "num_classes is 255; expected 1 to 254, what a mask can hold"),
        (1, {"background": False}, "background is False; expected True for a single class"),
        (2, {"losses": {}}, "losses is {}; expected a weight above 0 for at least one of cross_entropy, dice"),
        (2, {"losses": {"dice": 0.0}}, "losses is {}; expected a weight above 0"),
        (2, {"losses": {"dise": 1.0}}, "losses is dise; expected names among cross_entropy, dice"),
        (2, {"losses": {"dice": -1.0}}, "losses.dice is -1.0; expected a weight of 0 or more"),
        (2, {"losses": {"tversky": 1.0}, "tversky_alpha": 0, "tversky_beta": 0}, r"tversky_alpha \+ .* above 0"),
        (2, {"class_weights": (1.0, 2.0)}, r"class_weights is \(1.0, 2.0\); expected 3 numbers \(background first\)"),
        (2, {"class_weights": (1.0,), "background": False}, "expected 2 numbers, not all 0"),
        (2, {"class_weights": (0.0, 0.0, 0.0)}, "not all 0"),
        (2, {"class_weights": (1.0, 2.0, 3.0), "losses": {"dice": 1.0}}, "expected None, since neither"),
        (2, {"level": "c1", "auxiliary_weight": 0.4}, "auxiliary_weight is 0.4; expected 0: no level is finer than c1"),
    ],
)
def test_options_that_do_not_fit(classes: int, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        heads.build("pspnet", FEATURES, classes, **({"level": "c3"} | options))
