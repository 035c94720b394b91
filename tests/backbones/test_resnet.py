"""The ResNets against torchvision's and timm's, and the options that the shipped contract test cannot judge."""

# Networks start from a fixed seed: the gradient of a ReLU whose input rounds to either side of zero says nothing.

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from backbones import FeatureSpec, UserError, build_backbone
from backbones.resnet import ARCHITECTURES

# Parameters without the classifier (He et al., table 1; torchvision's published counts less fc).
PARAMETERS = {
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "resnet152": 58_143_808,
}


def randomised(net: nn.Module) -> nn.Module:
    """The network with norms whose affine and statistics are none of their neutral starting values."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
        elif name.endswith("running_var") or tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.5)
    return net


def body(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("fc.")}


def reference_levels(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Our five levels out of a torchvision ResNet, or a timm one, whose stem's ReLU has another name."""
    x = net.bn1(net.conv1(images)).relu()
    levels = {"c1": x}
    x = net.maxpool(x)
    for index in range(1, 5):
        x = getattr(net, f"layer{index}")(x)
        levels[f"c{index + 1}"] = x
    return levels


def reference(name: str, output_stride: int = 32, norm: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    torch.manual_seed(0)
    if output_stride < 32 and name in ("resnet18", "resnet34"):  # torchvision does not dilate the basic block
        return timm.create_model(name, output_stride=output_stride)
    dilate = [False, output_stride < 16, output_stride < 32]
    return getattr(torchvision.models, name)(replace_stride_with_dilation=dilate, norm_layer=norm)


def images(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 65, 50, generator=torch.Generator().manual_seed(1))


def assert_levels_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert list(ours) == list(theirs)
    for name, level in theirs.items():
        assert (ours[name] - level).abs().max() <= tolerance * level.abs().max(), name


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = build_backbone(name), getattr(torchvision.models, name)()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in body(theirs).items()}
    assert sum(p.numel() for p in ours.parameters()) == PARAMETERS[name]
    assert sum(p.numel() for p in theirs.parameters()) == PARAMETERS[name] + sum(
        p.numel() for p in theirs.fc.parameters()
    )


# What torchvision or timm has under these names is the same network.
TORCHVISION = ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2")
TIMM = {
    "resnet50_v1c": "resnet50c",
    **{f"resnet{depth}_v1d": f"resnet{depth}d" for depth in (18, 34, 50, 101, 152)},
    **{f"seresnet{depth}": f"seresnet{depth}" for depth in (18, 34, 50, 101, 152)},
}
SHALLOW = ("resnet50_v1c", "resnet18_v1d", "resnet50_v1d", "seresnet18", "seresnet50", "resnext50_32x4d")


def variant(name: str) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(TIMM[name]) if name in TIMM else getattr(torchvision.models, name)()


@pytest.mark.parametrize("name", [*TORCHVISION, *TIMM])
def test_tensors_of_variants_are_theirs(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = build_backbone(name), variant(name)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in body(theirs).items()}


@pytest.mark.parametrize(
    "name", [n if n in SHALLOW else pytest.param(n, marks=pytest.mark.slow) for n in (*TORCHVISION, *TIMM)]
)
def test_outputs_of_variants_are_theirs(name: str) -> None:
    theirs = randomised(variant(name))
    ours = build_backbone(name)
    ours.load_state_dict(body(theirs))
    with torch.no_grad():
        assert_levels_equal(ours.eval()(images()), reference_levels(theirs.eval(), images()))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_antialiased_outputs_are_timms(name: str) -> None:
    torch.manual_seed(0)
    theirs = randomised(timm.create_model(name.replace("resnet", "resnetblur")))
    ours = build_backbone(name, antialias=True)
    ours.load_state_dict(body(theirs))
    with torch.no_grad():
        assert_levels_equal(ours.eval()(images()), reference_levels(theirs.eval(), images()))


def test_stride_in_the_first_convolution() -> None:
    """The v1 block in plain functions; nobody publishes it by these names."""
    net = randomised(build_backbone("resnet50_v1")).eval()
    block, x = net.layer2[0], torch.randn(2, 256, 9, 8, generator=torch.Generator().manual_seed(0))
    y = block.bn1(torch.conv2d(x, block.conv1.weight, stride=2)).relu()
    y = block.bn2(torch.conv2d(y, block.conv2.weight, padding=1)).relu()
    y = block.bn3(torch.conv2d(y, block.conv3.weight))
    with torch.no_grad():
        torch.testing.assert_close(block(x), (y + block.downsample(x)).relu(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["plain18", "plain34"])
def test_plain_networks_have_the_layers_of_residual_ones(name: str) -> None:
    plain, residual = build_backbone(name), build_backbone(name.replace("plain", "resnet"))
    rest = {key for key in residual.state_dict() if ".downsample." in key}
    assert set(plain.state_dict()) == set(residual.state_dict()) - rest
    block, x = randomised(plain).eval().layer2[1], torch.randn(1, 128, 6, 5)
    with torch.no_grad():
        expected = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu())).relu()
        torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


def test_drop_path_leaves_branches_out_for_some_images() -> None:
    net = build_backbone("resnet18", drop_path=0.5, norm="frozen_bn")
    rates = [block.drop_path.rate if block.drop_path else 0 for layer in range(1, 5) for block in net.parts()[layer][0]]
    assert rates == pytest.approx([0.5 * index / 7 for index in range(8)])
    block = net.layer4[1]
    x = torch.rand(400, 512, 1, 1)
    torch.manual_seed(0)
    with torch.no_grad():
        branch, out = block.branch(x), block(x)
    left_out = (out == x).flatten(1).all(1)
    assert 0.4 < left_out.float().mean() < 0.6
    torch.testing.assert_close(out[~left_out], (x + 2 * branch).relu()[~left_out])
    block.eval()
    torch.testing.assert_close(block(x), (x + branch).relu())
    assert not any("drop" in key for key in net.state_dict())


def test_xavier_is_uniform_by_both_fans() -> None:
    torch.manual_seed(0)
    weight = build_backbone("resnet50", init="xavier").layer3[0].conv2.weight
    bound = (6 / (256 * 9 + 256 * 9)) ** 0.5
    assert 0.99 * bound < weight.abs().max() <= bound
    assert abs(weight.std() / (bound / 3**0.5) - 1) < 0.01


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", PARAMETERS)
def test_outputs_are_torchvisions(name: str, output_stride: int) -> None:
    theirs = randomised(reference(name, output_stride))
    ours = build_backbone(name, output_stride=output_stride)
    ours.load_state_dict(body(theirs))
    with torch.no_grad():
        assert_levels_equal(ours.eval()(images()), reference_levels(theirs.eval(), images()))
        if name in ("resnet18", "resnet50"):  # the same code for all of them; batch statistics need no folding
            assert_levels_equal(ours.train()(images()), reference_levels(theirs.train(), images()))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_frozen_norm_gives_torchvisions_outputs_and_gradients(name: str) -> None:
    theirs = randomised(reference(name, norm=FrozenBatchNorm2d))
    ours = build_backbone(name, norm="frozen_bn")
    ours.load_state_dict(body(theirs))
    pairs = ours.train()(images()), reference_levels(theirs.train(), images())
    assert_levels_equal(*pairs)
    for levels in pairs:
        generator = torch.Generator().manual_seed(2)
        sum((f * torch.randn(f.shape, generator=generator)).mean() for f in levels.values()).backward()
    expected = dict(theirs.named_parameters())
    for parameter_name, parameter in ours.named_parameters():
        gradient = expected[parameter_name].grad
        assert (parameter.grad - gradient).abs().max() <= 1e-4 * gradient.abs().max(), parameter_name


def test_levels_and_strides() -> None:
    assert build_backbone("resnet50", output_stride=8).features == {
        "c1": FeatureSpec(64, 2),
        "c2": FeatureSpec(256, 4),
        "c3": FeatureSpec(512, 8),
        "c4": FeatureSpec(1024, 8),
        "c5": FeatureSpec(2048, 8),
    }


@pytest.mark.parametrize("norm", ["bn", "frozen_bn", "sync_bn", "gn"])
def test_bf16_autocast_stays_bf16(norm: str) -> None:
    net = build_backbone("resnet18", norm=norm)
    for mode in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            levels = net.train(mode)(images())
        assert {level.dtype for level in levels.values()} == {torch.bfloat16}


def test_channels_last_stays_channels_last() -> None:
    net = build_backbone("resnet50", norm="frozen_bn").to(memory_format=torch.channels_last)
    for level in net(images().contiguous(memory_format=torch.channels_last)).values():
        assert level.is_contiguous(memory_format=torch.channels_last)


def test_zero_init_last_makes_each_branch_zero() -> None:
    net = build_backbone("resnet50", zero_init_last=True)
    x = torch.randn(2, 256, 8, 8).relu()
    torch.testing.assert_close(net.layer1[1](x), x, rtol=0, atol=0)
    assert not torch.equal(build_backbone("resnet50").layer1[1](x), x)


def test_convolutions_start_by_fan_out() -> None:
    torch.manual_seed(0)
    weight = build_backbone("resnet50").layer3[0].conv2.weight
    assert abs(weight.std() / (2 / (256 * 9)) ** 0.5 - 1) < 0.01


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "batch"},
        {"frozen_stages": 6},
        {"frozen_stages": -1},
        {"output_stride": 4},
        {"in_channels": 0},
        {"zero_init_last": True, "norm": "frozen_bn"},
        {"init": "orthogonal"},
        {"drop_path": 1.0},
        {"drop_path": -0.1},
    ],
)
def test_bad_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(UserError) as error:
        build_backbone("resnet18", **options)
    message = str(error.value)
    assert next(iter(options)) in message
    assert "\n" not in message


@pytest.mark.parametrize("option", [{"zero_init_last": True}, {"drop_path": 0.1}])
def test_plain_networks_refuse_what_would_leave_nothing(option: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(option))):
        build_backbone("plain18", **option)


def test_every_architecture_of_the_table_is_compared() -> None:
    alone = {"resnet50_v1", "resnet101_v1", "resnet152_v1", "resnet101_v1c", "resnet152_v1c", "plain18", "plain34"}
    assert {*PARAMETERS, *TORCHVISION, *TIMM, *alone} == set(ARCHITECTURES)
