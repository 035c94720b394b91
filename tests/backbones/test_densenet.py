"""The DenseNets against torchvision's and segmentation-models-pytorch's, and options the contract test cannot judge."""

import re
from pathlib import Path

import pytest
import segmentation_models_pytorch
import torch
import torchvision
from torch import Tensor, nn

from backbones import FeatureSpec, UserError, build_backbone, load_weights
from backbones.densenet import ARCHITECTURES
from tests.backbones.test_resnet import assert_levels_equal, randomised
from tests.backbones.test_staged import saved_bytes

# Parameters without the classifier: torchvision's published counts less it.
PARAMETERS = {"densenet121": 6_953_856, "densenet169": 12_484_480, "densenet201": 18_092_928, "densenet161": 26_472_000}


def images(height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def reference(name: str) -> nn.Module:
    torch.manual_seed(0)
    return randomised(getattr(torchvision.models, name)())


def body(net: nn.Module) -> dict[str, Tensor]:
    state = net.state_dict()
    return {key.removeprefix("features."): tensor for key, tensor in state.items() if key.startswith("features.")}


def reference_levels(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Our five levels out of a torchvision DenseNet."""
    levels = {}
    for name, module in net.features.named_children():
        if name.startswith("transition"):
            x = levels[f"c{int(name[-1]) + 1}"] = module.norm(x).relu()
            x = module.pool(module.conv(x))
        elif name != "relu0":
            x = module(x)
        if name in ("norm0", "norm5"):
            x = levels[f"c{int(name[-1]) or 1}"] = x.relu()
    return levels


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = build_backbone(name), getattr(torchvision.models, name)()
    assert {f"features.{k}": v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("classifier.")
    }
    assert sum(p.numel() for p in ours.parameters()) == PARAMETERS[name]
    classifier = sum(p.numel() for p in theirs.classifier.parameters())
    assert sum(p.numel() for p in theirs.parameters()) == PARAMETERS[name] + classifier


@pytest.mark.parametrize("name", ["densenet121", pytest.param("densenet161", marks=pytest.mark.slow)])
def test_outputs_are_torchvisions(name: str) -> None:
    theirs, ours = reference(name), build_backbone(name)
    ours.load_state_dict(body(theirs))
    with torch.no_grad():
        levels = ours.eval()(images())
        assert_levels_equal(levels, reference_levels(theirs.eval(), images()))
        logits = theirs.classifier(levels["c5"].mean((2, 3)))
        torch.testing.assert_close(logits, theirs(images()), rtol=1e-5, atol=1e-5)
        # Batch statistics of the few pixels of c5 make rounding visible.
        precise = ours.double().train()(images().double()), reference_levels(theirs.double().train(), images().double())
        assert_levels_equal(*precise, tolerance=1e-9)
    for key, statistics in ours.named_buffers():
        torch.testing.assert_close(statistics, theirs.features.get_buffer(key), rtol=1e-5, atol=1e-5)


def test_gradients_are_torchvisions() -> None:
    """In float64: of so many ReLUs, some inputs round to either side of zero otherwise."""
    theirs, ours = reference("densenet121").double(), build_backbone("densenet121").double()
    ours.load_state_dict(body(theirs))
    for levels in (ours(images().double()), reference_levels(theirs, images().double())):
        generator = torch.Generator().manual_seed(2)
        sum((f * torch.randn(f.shape, generator=generator)).mean() for f in levels.values()).backward()
    for name, parameter in ours.named_parameters():
        gradient = theirs.features.get_parameter(name).grad
        assert (parameter.grad - gradient).abs().max() <= 1e-9 * gradient.abs().max(), name


def test_levels_are_those_of_segmentation_models_pytorch() -> None:
    theirs = segmentation_models_pytorch.encoders.get_encoder("densenet121", weights=None)
    nn.Module.load_state_dict(theirs, {f"features.{k}": v for k, v in body(reference("densenet121")).items()})
    ours = build_backbone("densenet121")
    ours.load_state_dict(body(theirs))
    with torch.no_grad():
        expected = dict(zip(ours.features, theirs.eval()(images())[1:], strict=True))
        expected["c5"] = expected["c5"].relu()  # theirs leaves out the last ReLU of the published network
        assert_levels_equal(ours.eval()(images()), expected)


@pytest.mark.parametrize(
    ("prefix", "old"), [("features.", False), ("features.", True), ("encoder.features.", True), ("", False)]
)
def test_published_files_load_by_name(prefix: str, old: bool, tmp_path: Path) -> None:
    """Files of torchvision's are older than its code, which may not hold dots within a name."""
    theirs = reference("densenet121")
    expected = body(theirs)
    state = {prefix + key: tensor for key, tensor in expected.items()}
    state |= {key: tensor for key, tensor in theirs.state_dict().items() if key.startswith("classifier.")}
    if old:
        state = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value for key, value in state.items()}
        assert f"{prefix}denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state, tmp_path / "densenet121.pth")
    ours = build_backbone("densenet121")
    report = load_weights(ours, tmp_path / "densenet121.pth")
    assert not report.missing
    assert set(report.unexpected) == {"classifier.weight", "classifier.bias"}
    for key, tensor in ours.state_dict().items():
        assert key.endswith("num_batches_tracked") or torch.equal(tensor, expected[key]), key


@pytest.mark.parametrize("size", [(64, 96), (75, 49)])
def test_dilated_networks_compute_the_same_more_densely(size: tuple[int, int]) -> None:
    """Of what they compute, that of every second or fourth place is what the network with strides computes."""
    strided = randomised(build_backbone("densenet121")).eval()
    with torch.no_grad():
        expected = strided(images(*size))
        for output_stride in (16, 8):
            dilated = build_backbone("densenet121", output_stride=output_stride).eval()
            dilated.load_state_dict(strided.state_dict())
            levels = dilated(images(*size))
            step = {name: spec.stride // dilated.features[name].stride for name, spec in strided.features.items()}
            assert step["c5"] == 32 // output_stride
            assert_levels_equal({k: v[..., :: step[k], :: step[k]] for k, v in levels.items()}, expected)


def test_odd_borders_are_averaged_alone() -> None:
    transition = build_backbone("densenet121").transition1
    nn.init.dirac_(transition.conv.weight)
    x = torch.arange(15.0).reshape(1, 1, 3, 5).expand(1, 256, 3, 5)
    expected = torch.tensor([[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]])
    torch.testing.assert_close(transition(x)[0, 0], expected)


def test_the_network_for_small_images_is_the_papers() -> None:
    """Table 2: depth 40, k = 12, 1.0 M parameters; its layers in plain functions."""
    net = randomised(build_backbone("cifar_densenet40")).eval()
    classifier = nn.Linear(net.features["c2"].channels, 10)
    assert sum(p.numel() for p in (*net.parameters(), *classifier.parameters())) == 1_019_722
    assert sum(isinstance(module, nn.Conv2d) for module in net.modules()) + 1 == 40

    x = net.conv0(images(33, 20))
    expected = {}
    for index in range(3):
        for layer in net.get_submodule(f"denseblock{index + 1}").values():
            x = torch.cat([x, torch.conv2d(layer.norm1(x).relu(), layer.conv1.weight, padding=1)], 1)
        last = net.norm4 if index == 2 else net.get_submodule(f"transition{index + 1}").norm
        x = expected[f"c{index}"] = last(x).relu()
        if index < 2:
            x = torch.conv2d(x, net.get_submodule(f"transition{index + 1}").conv.weight)
            x = torch.nn.functional.avg_pool2d(x, 2, ceil_mode=True)
    assert_levels_equal(net(images(33, 20)), expected)


def test_levels_and_strides() -> None:
    with torch.device("meta"):
        assert build_backbone("densenet161", output_stride=16).features == {
            "c1": FeatureSpec(96, 2),
            "c2": FeatureSpec(384, 4),
            "c3": FeatureSpec(768, 8),
            "c4": FeatureSpec(2112, 16),
            "c5": FeatureSpec(2208, 16),
        }


def test_checkpointing_keeps_what_layers_add_alone() -> None:
    full, less = (saved_bytes(build_backbone("densenet121", activation_checkpointing=on)) for on in (False, True))
    assert less < 0.25 * full


def test_dropout_scales_what_it_keeps() -> None:
    torch.manual_seed(0)
    layer = build_backbone("densenet121", drop_rate=0.25).denseblock4["denselayer1"]
    x = torch.randn(8, 512, 8, 8)
    with torch.no_grad():
        dropped, whole = layer.train()(x), layer.eval()(x)
        layer.train().drop_rate = 0.0
    gone = dropped == 0
    assert 0.2 < gone.float().mean() < 0.3
    assert not (whole == 0).any()
    assert not torch.equal(dropped, layer(x))


@pytest.mark.parametrize("norm", ["bn", "frozen_bn", "gn"])
def test_bf16_autocast_stays_bf16(norm: str) -> None:
    net = build_backbone("densenet121", norm=norm)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        levels = net(images(32, 32))
    assert {level.dtype for level in levels.values()} == {torch.bfloat16}


def test_a_level_freezes_with_its_last_norm() -> None:
    net = build_backbone("densenet121", frozen_stages=3)
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert {"transition1.conv.weight", "transition2.norm.weight"} <= frozen
    assert not {"transition2.conv.weight", "transition3.norm.weight"} & frozen
    assert [net.stage_of(f"{name}.weight") for name in ("norm0", "transition1.norm", "transition1.conv", "norm5")] == [
        0, 1, 2, 4,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["densenet121", "cifar_densenet40"])
@pytest.mark.parametrize("options", [{"output_stride": 4}, {"drop_rate": 1.0}, {"drop_rate": -0.1}, {"norm": "none"}])
def test_bad_options_are_named(name: str, options: dict[str, object]) -> None:
    with pytest.raises(UserError) as error:
        build_backbone(name, **options)
    assert next(iter(options)) in str(error.value)
    assert "\n" not in str(error.value)
