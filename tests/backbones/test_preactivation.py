"""The pre-activation ResNets against timm's, and the CIFAR ones against blocks written out as in their paper."""

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.layers import BatchNormAct2d, create_conv2d
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from backbones import FeatureSpec, UserError, build_backbone, load_weights
from backbones.preactivation import DEPTHS
from tests.backbones.test_resnet import assert_levels_equal, images, randomised
from tests.backbones.test_staged import saved_bytes
from tests.backbones.training_memory import memory_of_a_step

QUICK = ("resnet18_v2", "resnet50_v2")


def timms(name: str, **options: int) -> nn.Module:
    torch.manual_seed(0)
    if name == "resnet200_v2":  # which timm has no name for
        return ResNetV2([3, 24, 36, 3], conv_layer=create_conv2d, norm_layer=BatchNormAct2d, **options)
    return timm.create_model(name.replace("resnet", "resnetv2_").removesuffix("_v2"), **options)


def body(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("head.")}


def timms_levels(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Stages behind the norm and ReLU that the next one, or the classifier, reads them through."""
    levels = {"c1": net.stem[0](images)}
    x = net.stem(images)
    ends = [stage.blocks[0].norm1 for stage in net.stages][1:] + [net.norm]
    for index, (stage, end) in enumerate(zip(net.stages, ends, strict=True)):
        x = stage(x)
        levels[f"c{index + 2}"] = end(x)
    return levels


@pytest.mark.parametrize("name", DEPTHS)
def test_tensors_are_timms(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = build_backbone(name), timms(name)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in body(theirs).items()}


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in DEPTHS])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_outputs_are_timms(name: str, output_stride: int) -> None:
    theirs = randomised(timms(name, output_stride=output_stride))
    ours = build_backbone(name, output_stride=output_stride)
    ours.load_state_dict(body(theirs))
    with torch.no_grad():
        levels, expected = ours.eval()(images()), timms_levels(theirs.eval(), images())
        assert_levels_equal(levels, expected)
        assert torch.equal(expected["c5"], theirs.forward_features(images()))  # what timm's classifier averages


@pytest.mark.parametrize("name", ["resnet18_v2", pytest.param("resnet50_v2", marks=pytest.mark.slow)])
def test_outputs_and_gradients_in_training_are_timms(name: str) -> None:
    theirs = randomised(timms(name))
    ours = build_backbone(name)
    ours.load_state_dict(body(theirs))
    got, expected = ours.train()(images()), theirs.train().forward_features(images())
    assert (got["c5"] - expected).abs().max() <= 1e-4 * expected.abs().max()
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    for output in (got["c5"], expected):
        (output * weights).mean().backward()
    reference = dict(theirs.named_parameters())
    for parameter_name, parameter in ours.named_parameters():
        gradient = reference[parameter_name].grad
        assert (parameter.grad - gradient).norm() <= 1e-3 * gradient.norm(), parameter_name
    for buffer_name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, theirs.get_buffer(buffer_name), rtol=1e-4, atol=1e-5)


def test_timms_files_load_by_name(tmp_path: Path) -> None:
    theirs = timms("resnet18_v2")
    save_file(theirs.state_dict(), tmp_path / "resnetv2_18.safetensors")
    ours = build_backbone("resnet18_v2")
    report = load_weights(ours, tmp_path / "resnetv2_18.safetensors")
    assert set(report.unexpected) == {"head.fc.weight", "head.fc.bias"}
    assert report.missing == report.misshaped == ()
    assert torch.equal(ours.norm.weight, theirs.norm.weight)


def papers_levels(state: dict[str, Tensor], blocks: int, images: Tensor) -> dict[str, Tensor]:
    """Figure 4 (e) and the appendix in plain functions: units of three convolutions, of which a stage's first strides
    in its first convolution and activates its input for both paths."""

    def activated(norm: str, x: Tensor) -> Tensor:
        statistics = (state[f"{norm}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *statistics).relu()

    x, levels = F.conv2d(images, state["stem.conv.weight"], padding=1), {}
    for stage in range(3):
        for block in range(blocks):
            name, stride = f"stages.{stage}.blocks.{block}", 2 if stage and not block else 1
            inside = activated(f"{name}.norm1", x)
            if stage and not block:
                levels[f"c{stage - 1}"] = inside
            y = F.conv2d(inside, state[f"{name}.conv1.weight"], stride=stride)
            y = F.conv2d(activated(f"{name}.norm2", y), state[f"{name}.conv2.weight"], padding=1)
            y = F.conv2d(activated(f"{name}.norm3", y), state[f"{name}.conv3.weight"])
            x = y + (x if block else F.conv2d(inside, state[f"{name}.downsample.conv.weight"], stride=stride))
    return {**levels, "c2": activated("norm", x)}


def test_outputs_of_cifar_networks_are_the_papers() -> None:
    torch.manual_seed(0)
    net = randomised(build_backbone("cifar_resnet164_v2")).double().eval()
    with torch.no_grad():
        assert_levels_equal(net(images().double()), papers_levels(net.state_dict(), 18, images().double()))


@pytest.mark.parametrize(("name", "millions"), [("cifar_resnet164_v2", "1.7"), ("cifar_resnet1001_v2", "10.2")])
def test_parameters_of_cifar_networks_are_the_papers(name: str, millions: str) -> None:
    """Table 4, whose numbers are those of the convolutions' and the classifier's weights."""
    with torch.device("meta"):
        net = build_backbone(name)
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert f"{(sum(module.weight.numel() for module in convolutions) + 2560) / 1e6:.1f}" == millions
    assert len(convolutions) - 3 + 1 == int("".join(filter(str.isdigit, name.removesuffix("_v2"))))  # 3 of shortcuts
    assert net.features == {"c0": FeatureSpec(64, 1), "c1": FeatureSpec(128, 2), "c2": FeatureSpec(256, 4)}


@pytest.mark.parametrize("name", ["resnet18_v2", "resnet50_v2", "cifar_resnet164_v2"])
def test_levels_behind_the_stem_are_normalised(name: str) -> None:
    with torch.no_grad():
        levels = build_backbone(name)(images())
    stem = levels.pop("c1") if "c5" in levels else None
    assert stem is None or stem.min() < 0
    for level_name, level in levels.items():
        assert level.min() == 0, level_name
        assert 0.8 < level.square().mean() * 2 < 1.2, level_name  # half of what the norm gave is cut off


@pytest.mark.parametrize(("frozen", "name"), [(2, "resnet18_v2"), (2, "resnet50_v2"), (2, "cifar_resnet164_v2")])
def test_frozen_stages_end_with_their_level(frozen: int, name: str) -> None:
    """The norm of a level lies in the next stage's first block, and is frozen with the level, no later."""
    net = build_backbone(name, frozen_stages=frozen)
    before = {key: buffer.clone() for key, buffer in net.named_buffers()}
    trained = [level.requires_grad for level in net(images()).values()]
    finest = len(trained) - 3 if "c5" in net.features else 1
    assert trained == [False] * finest + [True] * (len(trained) - finest)
    assert not net.stages[1]["blocks"][0].norm1.weight.requires_grad
    assert net.stages[1]["blocks"][0].conv1.weight.requires_grad
    mean = "stages.{}.blocks.0.norm1.running_mean"
    assert torch.equal(net.get_buffer(mean.format(1)), before[mean.format(1)])
    assert not torch.equal(net.get_buffer(mean.format(2)), before[mean.format(2)])


def test_zero_init_last_makes_each_branch_zero() -> None:
    x = torch.randn(2, 256, 8, 8)
    for options in ({}, {"norm": "frozen_bn"}, {"init": "xavier"}):
        block = build_backbone("resnet50_v2", zero_init_last=True, **options).stages[0]["blocks"][1]
        torch.testing.assert_close(block(x), x, rtol=0, atol=0)
    assert not torch.equal(build_backbone("resnet50_v2").stages[0]["blocks"][1](x), x)


def test_drop_path_leaves_branches_out_for_some_images() -> None:
    block = build_backbone("resnet18_v2", drop_path=0.5, norm="frozen_bn").stages[3]["blocks"][1]
    x = torch.randn(400, 512, 1, 1)
    torch.manual_seed(0)
    with torch.no_grad():
        out, whole = block(x), block.eval()(x)
    left_out = (out == x).flatten(1).all(1)
    assert 0.4 < left_out.float().mean() < 0.6
    torch.testing.assert_close(out[~left_out], (2 * whole - x)[~left_out], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", QUICK)
def test_antialiased_blocks_blur_behind_the_relu(name: str) -> None:
    net = randomised(build_backbone(name, antialias=True)).eval()
    block = net.stages[1]["blocks"][0]
    x = torch.randn(2, block.conv1.in_channels, 9, 8, generator=torch.Generator().manual_seed(0))
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    with torch.no_grad():
        y = block.norm2(block.conv1(x)).relu()
        if name == "resnet50_v2":
            y = block.norm3(block.conv2(y)).relu()
        padded = F.pad(y, (1, 1, 1, 1), mode="reflect")
        y = F.conv2d(padded, kernel.expand(y.shape[1], 1, 3, 3), stride=2, groups=y.shape[1])
        y = (block.conv3 if name == "resnet50_v2" else block.conv2)(y)
        torch.testing.assert_close(block(x), y + block.downsample(x), rtol=1e-4, atol=1e-4)
    assert net.state_dict().keys() == build_backbone(name).state_dict().keys()


@pytest.mark.parametrize("name", ["resnet18_v2", "cifar_resnet164_v2"])
@pytest.mark.parametrize("norm", ["bn", "frozen_bn", "gn"])
def test_bf16_autocast_stays_bf16(name: str, norm: str) -> None:
    net = build_backbone(name, norm=norm)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert {level.dtype for level in net(images()).values()} == {torch.bfloat16}


def test_less_is_kept_where_norms_are_folded_or_activations_recomputed() -> None:
    plain, folded, recomputed = (
        saved_bytes(build_backbone("resnet50_v2", **options))
        for options in ({}, {"norm": "frozen_bn"}, {"activation_checkpointing": True})
    )
    assert folded < 0.8 * plain
    assert recomputed < 0.5 * plain


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "batch"},
        {"frozen_stages": 6},
        {"output_stride": 4},
        {"in_channels": 0},
        {"init": "orthogonal"},
        {"drop_path": 1.0},
    ],
)
def test_bad_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(UserError) as error:
        build_backbone("resnet18_v2", **options)
    message = str(error.value)
    assert next(iter(options)) in message
    assert "\n" not in message


@pytest.mark.slow
def test_the_deepest_trains_within_8_gib_at_the_papers_batch() -> None:
    assert memory_of_a_step("cifar_resnet1001_v2", images=8, extrapolated_to=64) < 8
