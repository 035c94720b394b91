"""The highway networks against the numbers of their papers and code, the equation in plain functions, and options."""

import math

import pytest
import torch
from torch import Tensor, nn

from backbones import FeatureSpec, UserError, build_backbone
from backbones.highway import HighwayLayer, PlainLayer
from tests.backbones.test_resnet import assert_levels_equal, randomised
from tests.backbones.test_staged import saved_bytes

NAMES = ("cifar_highway19", "cifar_highway32", "highway18")
# Of each layer, stem to last convolution, worked out from the shapes in the file that the authors trained from.
PUBLISHED = [896, *[18_496] * 4, 23_120, *[115_360] * 5, 92_288, *[295_168] * 5, 12_900]


def images(height: int = 33, width: int = 50) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def layers(net: nn.Module) -> list[PlainLayer]:
    """In the order of the data."""
    return [module for module in net.modules() if isinstance(module, PlainLayer)]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_layers_are_those_of_the_authors_code() -> None:
    net = build_backbone("cifar_highway19")
    assert [parameters(layer) for layer in layers(net)] == PUBLISHED
    assert parameters(net) == sum(PUBLISHED)
    assert {layer.gate.bias.unique().item() for layer in layers(net) if isinstance(layer, HighwayLayer)} == {-2.0}


@pytest.mark.parametrize(("name", "depth", "millions"), [("cifar_highway19", 19, 2.3), ("cifar_highway32", 32, 1.25)])
def test_depths_and_parameters_are_the_papers(name: str, depth: int, millions: float) -> None:
    """Table 2 of arXiv:1507.06228, classifier included."""
    net = build_backbone(name)
    assert len(layers(net)) + 1 == depth
    classifier = nn.Linear(net.features["c2"].channels, 10)
    assert (parameters(net) + parameters(classifier)) / 1e6 == pytest.approx(millions, rel=0.02)


def test_highway18_has_the_layers_of_plain18() -> None:
    highway, plain = build_backbone("highway18"), build_backbone("plain18")
    ours = [layer.conv.weight.shape for layer in layers(highway)]
    assert ours == [p.shape for p in plain.parameters() if p.ndim == 4]
    assert highway.features == plain.features
    assert sum(isinstance(layer, HighwayLayer) for layer in layers(highway)) == 13


@pytest.mark.parametrize("norm", [None, "bn", "gn"])
def test_layer_is_the_papers_equation(norm: str | None) -> None:
    torch.manual_seed(0)
    layer = randomised(HighwayLayer(8, -1.0, norm)).eval()
    x = torch.randn(2, 8, 6, 5)
    h = torch.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)
    h = (h if norm is None else layer.norm(h)).relu()
    t = torch.sigmoid(torch.conv2d(x, layer.gate.weight, layer.gate.bias, padding=1))
    torch.testing.assert_close(layer(x), h * t + x * (1 - t), rtol=1e-5, atol=1e-5)


def test_closed_gates_carry_and_open_gates_transform() -> None:
    x = images()
    closed, opened = (build_backbone("cifar_highway32", gate_bias=bias).eval() for bias in (-200.0, 200.0))
    with torch.no_grad():
        stem = closed.stem(x)
        assert torch.equal(closed(x)["c0"], stem)
        y = opened.stem(x)
        for layer in opened.layer1:
            y = PlainLayer.forward(layer, y)
        torch.testing.assert_close(opened(x)["c0"], y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_new_network_mostly_carries(name: str) -> None:
    torch.manual_seed(0)
    net, opened = build_backbone(name), []
    for layer in layers(net):
        if isinstance(layer, HighwayLayer):
            layer.gate.register_forward_hook(lambda _, __, y: opened.append(y.sigmoid().mean().item()))
    with torch.no_grad():
        net(images())
    assert len(opened) == sum(isinstance(layer, HighwayLayer) for layer in layers(net))
    assert min(opened) > 0.02
    assert max(opened) < 0.35


def test_signals_keep_their_scale_without_norms() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for name in NAMES:
            scales = [level.square().mean().sqrt() for level in build_backbone(name)(images()).values()]
            assert min(scales) > 0.3
            assert max(scales) < 3


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_a_new_network_reach_all_layers(name: str) -> None:
    torch.manual_seed(0)
    net = build_backbone(name)
    last = list(net(images()).values())[-1]
    (last * torch.randn(last.shape)).sum().backward()
    norms = [layer.conv.weight.grad.norm().item() for layer in layers(net)]
    assert max(norms) < 100 * min(norms)


def test_norm_takes_the_place_of_the_bias() -> None:
    without, normed = (build_backbone("cifar_highway19", norm=norm) for norm in (None, "bn"))
    assert not any(".norm." in key for key in without.state_dict())
    assert all((f"{key}conv.bias" in without.state_dict()) for key in ("stem.", "layer1.0.", "layer3.0."))
    assert not any(key.endswith("conv.bias") for key in normed.state_dict())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in normed.modules()) == len(layers(normed))


def test_xavier_reaches_gates_and_leaves_biases() -> None:
    torch.manual_seed(0)
    gate = build_backbone("highway18", init="xavier").layer4[1].gate
    bound = (6 / (2 * 512 * 9)) ** 0.5
    assert 0.99 * bound < gate.weight.abs().max() <= bound
    assert (gate.bias == -2).all()


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_networks_compute_the_same_more_densely(output_stride: int) -> None:
    """Of what they compute, that of every second or fourth place is what the network with strides computes."""
    torch.manual_seed(0)
    strided, dilated = build_backbone("highway18").eval(), build_backbone("highway18", output_stride=output_stride)
    dilated.eval().load_state_dict(strided.state_dict())
    assert dilated.features["c5"] == FeatureSpec(512, output_stride)
    step = {name: spec.stride // dilated.features[name].stride for name, spec in strided.features.items()}
    with torch.no_grad():
        levels = dilated(images(75, 49))
        assert_levels_equal({k: v[..., :: step[k], :: step[k]] for k, v in levels.items()}, strided(images(75, 49)))


def test_dropout_is_of_what_enters_each_stage_that_trains() -> None:
    torch.manual_seed(0)
    plain = build_backbone("cifar_highway19").eval()
    changed = {}
    for frozen in range(5):
        net = build_backbone("cifar_highway19", drop_rate=0.2, frozen_stages=frozen)
        net.load_state_dict(plain.state_dict())
        with torch.no_grad():
            expected, levels = plain(images()), net.train()(images())
            assert_levels_equal(net.eval()(images()), expected)
        changed[frozen] = [name for name in expected if not torch.equal(levels[name], expected[name])]
    assert changed == {0: ["c0", "c1", "c2"], 1: ["c1", "c2"], 2: ["c1", "c2"], 3: ["c2"], 4: []}


def test_checkpointing_keeps_less() -> None:
    full, less = (saved_bytes(build_backbone("cifar_highway32", activation_checkpointing=on)) for on in (False, True))
    assert less < 0.4 * full  # the input of a layer, of that, H and T


@pytest.mark.parametrize("name", ["cifar_highway19", "highway18"])
@pytest.mark.parametrize(
    "options",
    [
        {"gate_bias": math.inf},
        {"drop_rate": 1.0},
        {"output_stride": 4},
        {"norm": "none"},
        {"init": "orthogonal"},
        {"frozen_stages": 6},
        {"in_channels": 0},
    ],
)
def test_bad_options_are_named(name: str, options: dict[str, object]) -> None:
    with pytest.raises(UserError) as error:
        build_backbone(name, **options)
    assert next(iter(options)) in str(error.value)
    assert (
        name.replace("_", "") in str(error.value).lower().replace("_", "") or "norm" in options
    )  # the norms know no network
    assert "\n" not in str(error.value)
