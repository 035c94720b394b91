"""timm's networks behind the contract: timm's numbers, levels by their strides, every size or a clear refusal."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones import Backbone, FeatureSpec, UserError, backbones, build_backbone, load_weights
from backbones.testing import check_backbone

# One for each way in which timm gives feature maps (flattened, hooks, own classes, getters), channels-last ones, one of
# a fixed size, and ones that round down; with the size of the images that it is tested with.
QUICK = {
    "convnext_atto": (64, 32),
    "lcnet_050": (64, 32),
    "vit_tiny_patch16_224": (64, 32),
}
SLOW = {
    "densenet121": (64, 32),
    "efficientnet_b0": (64, 32),
    "efficientvit_b0": (64, 32),
    "halonet26t": (64, 32),
    "hrnet_w18_small": (64, 32),
    "mambaout_femto": (64, 32),
    "mobilenetv3_small_050": (64, 32),
    "regnetx_002": (64, 32),
    "resnet10t": (64, 32),
    "swin_tiny_patch4_window7_224": (64, 32),
    "vgg11_bn": (64, 32),
    "visformer_tiny": (224, 224),
    "xception41": (64, 32),
    "xcit_nano_12_p8_224": (64, 32),
}
SLOWLY = [pytest.param(name, marks=pytest.mark.slow) for name in SLOW]
SIZES = QUICK | SLOW


def images(size: tuple[int, int], channels: int = 3) -> Tensor:
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))


def reference(name: str, **options: Any) -> nn.Module:
    return timm.create_model(name, features_only=True, **options).eval()


def assert_equal(levels: dict[str, Tensor], theirs: list[Tensor], channels_last: bool = False) -> None:
    """Each level is one of timm's maps."""
    theirs = [x.permute(0, 3, 1, 2) for x in theirs] if channels_last else theirs
    for name, level in levels.items():
        near = [(level - x).abs().max() / x.abs().max() for x in theirs if x.shape == level.shape]
        assert min(near) <= 1e-5, name


@pytest.mark.parametrize("name", [*QUICK, *SLOWLY])
def test_contract(name: str) -> None:
    check_backbone(backbones.factory(f"timm/{name}"), size=SIZES[name])


@pytest.mark.parametrize("name", [*QUICK, "mambaout_femto", *SLOWLY])
def test_outputs_are_timms(name: str) -> None:
    free = {"vit_": {"dynamic_img_size": True}, "swin": {"strict_img_size": False}}.get(name[:4], {})
    ours, theirs = build_backbone(f"timm/{name}").eval(), reference(name, **free)
    ours.net.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        for size in dict.fromkeys((SIZES[name], (224, 224))):
            if size[0] % ours.multiple or size[1] % ours.multiple:
                continue
            channels_last = name.startswith(("swin", "mambaout"))
            assert_equal(ours(images(size)), theirs(images(size)), channels_last)


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("resnet10t", {"c1": (64, 2), "c2": (64, 4), "c3": (128, 8), "c4": (256, 16), "c5": (512, 32)}),
        ("convnext_atto", {"c2": (40, 4), "c3": (80, 8), "c4": (160, 16), "c5": (320, 32)}),
        ("vit_tiny_patch16_224", {"c4": (192, 16)}),
        ("efficientvit_m0", {"c4": (64, 16), "c5": (128, 32), "c6": (192, 64)}),
    ],
)
def test_levels_are_named_by_stride(name: str, levels: dict[str, tuple[int, int]]) -> None:
    with torch.device("meta"):
        assert build_backbone(f"timm/{name}").features == {k: FeatureSpec(*spec) for k, spec in levels.items()}


def test_of_several_maps_of_one_stride_the_deepest_is_the_level() -> None:
    ours = build_backbone("timm/vit_tiny_patch16_224").eval()
    theirs = reference("vit_tiny_patch16_224")
    ours.net.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(images((224, 224)))["c4"], theirs(images((224, 224)))[-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "multiple"), [("resnet10t", 1), ("convnext_atto", 32), ("halonet26t", 256)])
def test_odd_sizes_are_those_of_the_image_with_zeros_around_it(name: str, multiple: int) -> None:
    ours = build_backbone(f"timm/{name}").eval()
    assert ours.multiple == multiple
    odd = images((81, 50))
    padded = nn.functional.pad(odd, (0, -50 % multiple, 0, -81 % multiple))
    with torch.no_grad():
        whole = ours.net(padded)
        for (level, x), spec in zip(ours(odd).items(), ours.features.values(), strict=True):
            height, width = -(-81 // spec.stride), -(-50 // spec.stride)
            assert x.shape[2:] == (height, width), level
            assert any(torch.equal(x, y[:, :, :height, :width]) for y in whole), level


def test_dilation_keeps_the_names_and_gives_timms_maps() -> None:
    ours, theirs = (
        build_backbone("timm/convnext_atto", output_stride=8).eval(),
        reference("convnext_atto", output_stride=8),
    )
    assert {level: spec.stride for level, spec in ours.features.items()} == {"c2": 4, "c3": 8, "c4": 8, "c5": 8}
    ours.net.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        assert_equal(ours(images((64, 64))), theirs(images((64, 64))))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("convnxt_atto", {}, r"'timm/convnxt_atto' is none of timm's \d+ networks; did you mean timm/convnext_atto"),
        ("resnet18.b_in1k", {}, r"did you mean timm/resnet18\.\w+_in1k"),
        ("inception_v3", {}, r"inception_v3 cannot be a backbone: its c1 of 299 x 299 pixels has the shape"),
        ("lcnet_050", {"norm": "gn"}, r"'norm'; it takes timm/lcnet_050\(\*, in_channels: int = 3, .*drop_path_rate"),
        ("lcnet_050", {"pretrained": True}, r"'pretrained'; it takes timm/lcnet_050"),
        ("lcnet_050", {"in_channels": 0}, r"timm/lcnet_050: in_channels is 0"),
        ("lcnet_050", {"frozen_stages": 6}, r"timm/lcnet_050: frozen_stages is 6; give 0 \(none\), or 1 to 5 \(all\)"),
        ("convnext_atto", {"frozen_stages": 1}, r"frozen_stages is 1; give 0 \(none\), or 2 to 5 \(all\)"),
        ("vit_tiny_patch16_224", {"output_stride": 8}, r"output_stride is 8; timm does not dilate .* its own is 16"),
        ("convnext_atto", {"output_stride": 7}, r"output_stride is 7; its own is 32: "),
        ("convnext_atto", {"depths": 3}, r"timm/convnext_atto: timm cannot build it \(.*change backbone.options"),
    ],
)
def test_refusals(name: str, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as error:
        build_backbone(f"timm/{name}", **options)
    assert "\n" not in str(error.value)


def test_options_of_a_config_are_accepted_or_not() -> None:
    asked = (
        "norm",
        "frozen_stages",
        "output_stride",
        "activation_checkpointing",
        "in_channels",
        "drop_path_rate",
        "wings",
    )
    accepted = {option for option in asked if backbones.accepts("timm/convnext_atto", option)}
    assert accepted == {"frozen_stages", "output_stride", "activation_checkpointing", "in_channels", "drop_path_rate"}
    assert "timm/convnext_atto" not in backbones.names()


def test_keywords_reach_the_network() -> None:
    net = build_backbone("timm/convnext_atto", depths=[1, 1, 1, 1], drop_path_rate=0.5)
    assert len(net.net.stages_2.blocks) == 1
    assert net.net.stages_3.blocks[0].drop_path.drop_prob == 0.5


def test_a_fixed_size_is_told_before_anything_is_computed() -> None:
    net = build_backbone("timm/visformer_tiny")
    assert (net.size, net.divisor) == ((224, 224), 224)
    net.require_size(224, 224)
    line = r"timm/visformer_tiny takes images of 224 x 224 pixels only, not of 64 x 96; set --data.size 224 224, or --b"
    with pytest.raises(UserError, match=line):
        net.require_size(64, 96)
    with pytest.raises(UserError, match=line):
        net(images((64, 96)))
    assert build_backbone("timm/visformer_tiny", img_size=96).size == (96, 96)


def test_batches_of_others_are_padded_as_ever() -> None:
    assert build_backbone("timm/lcnet_050").divisor == 32
    assert build_backbone("timm/efficientvit_m0").divisor == 64


def test_stages() -> None:
    conv, vit = build_backbone("timm/resnet10t"), build_backbone("timm/vit_tiny_patch16_224")
    assert [
        conv.stage_of(f"net.{name}") for name in ("conv1.0.weight", "layer1.0.conv1.weight", "layer4.0.bn1.bias")
    ] == [0, 1, 4]
    assert {conv.stage_of(name) for name, _ in conv.named_parameters()} == set(range(5))
    assert [
        vit.stage_of(f"net.model.{name}") for name in ("pos_embed", "blocks.0.norm1.weight", "blocks.11.mlp.fc1.bias")
    ] == [0, 1, 12]


def test_what_the_levels_do_not_need_does_not_train() -> None:
    """timm runs all of these networks, whose feature maps are taken by hooks."""
    net = build_backbone("timm/xception41")
    resting = [name for name, parameter in net.named_parameters() if not parameter.requires_grad]
    assert resting == [] or all("net.body" in name for name in resting)
    frozen = build_backbone("timm/lcnet_050", frozen_stages=2)
    assert not frozen.net.blocks[1].training
    assert frozen.net.blocks[-1].training


def whole(name: str, **options: Any) -> dict[str, Tensor]:
    """Weights of a network for labels, as timm publishes them, that no test would draw."""
    torch.manual_seed(5)
    return timm.create_model(name, **options).state_dict()


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in ("xception41", "vgg11_bn"))]
)
@pytest.mark.parametrize("channels", [3, 1])
def test_a_whole_network_of_timms_loads_by_name(name: str, channels: int, tmp_path: Path) -> None:
    state = whole(name)
    save_file(state, tmp_path / "whole.safetensors")
    ours = build_backbone(f"timm/{name}", in_channels=channels).eval()
    report = load_weights(ours, tmp_path / "whole.safetensors")
    assert report.missing == report.misshaped == ()
    assert len(report.reshaped) == (channels != 3)
    full = timm.create_model(name).eval()
    full.load_state_dict(state, strict=False)
    grey = images((224, 224), channels)
    with torch.no_grad():
        expected = full.forward_intermediates(grey.expand(-1, 3, -1, -1), intermediates_only=True)
        for level, x in ours(grey).items():
            near = [(x - y).abs().max() / y.abs().max() for y in expected if y.shape == x.shape]
            assert min(near) < 1e-4, level


def test_position_embeddings_of_another_size_are_resampled_as_timm_does(tmp_path: Path) -> None:
    save_file(whole("vit_tiny_patch16_224"), tmp_path / "vit.safetensors")
    ours = build_backbone("timm/vit_tiny_patch16_224", img_size=96)
    assert load_weights(ours, tmp_path / "vit.safetensors").misshaped == ()
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=96, pretrained=True,
                               pretrained_cfg_overlay={"file": str(tmp_path / "vit.safetensors")})  # fmt: skip
    torch.testing.assert_close(ours.net.model.pos_embed, theirs.pos_embed, rtol=0, atol=0)


def test_an_encoder_of_smps_loads_by_name(tmp_path: Path) -> None:
    state = {f"encoder.model.{name}": x for name, x in reference("convnext_atto").state_dict().items()}
    save_file(state | {"decoder.weight": torch.zeros(1)}, tmp_path / "smp.safetensors")
    assert load_weights(build_backbone("timm/convnext_atto"), tmp_path / "smp.safetensors").missing == ()


def test_its_own_weights_load_and_others_are_refused(tmp_path: Path) -> None:
    one, other = build_backbone("timm/lcnet_050"), build_backbone("timm/lcnet_050")
    save_file(one.state_dict(), tmp_path / "own.safetensors")
    assert load_weights(other, tmp_path / "own.safetensors").missing == ()
    with pytest.raises(UserError, match="entries of TimmBackbone fit"):
        load_weights(build_backbone("timm/resnet10t"), tmp_path / "own.safetensors")


def test_published_weights_are_downloaded(
    server: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(whole("lcnet_050"), tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    template = "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE"
    monkeypatch.setattr(template, server.url + "/{repo_id}/resolve/{revision}/{filename}")
    checksum = {"X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
    server.serve("/blob", content)
    server.serve("/timm/lcnet_050.ra2_in1k/resolve/main/model.safetensors", redirect="/blob", headers=checksum)
    net: Backbone = build_backbone("timm/lcnet_050")
    report = load_weights(net, "timm/lcnet_050")
    assert report.missing == report.misshaped == ()
