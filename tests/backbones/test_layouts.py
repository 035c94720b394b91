"""A backbone out of a file of any library, alone or in a model: what arrives, and what is said of it.

The names are written out here once more, by rules of their own.
"""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones import UserError, build_backbone, load_weights

State = dict[str, Tensor]


def shaken(net: nn.Module) -> nn.Module:
    """The network with statistics and affines that are not the neutral ones."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    return net.eval()


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    return shaken(torchvision.models.resnet18())


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def detectron2(state: State) -> State:
    """By Detectron2's converter of torchvision's files: the classifier ends up in the stem, the counters stay."""
    renamed = {}
    for key, tensor in state.items():
        key = key if "layer" in key else "stem." + key
        for number in range(1, 5):
            key = key.replace(f"layer{number}", f"res{number + 1}").replace(f"bn{number}", f"conv{number}.norm")
        key = key.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        renamed[key] = tensor
    return renamed


def bgr(state: State) -> State:
    return {name: tensor[:, [2, 1, 0]] if tensor.shape[1:2] == (3,) else tensor for name, tensor in state.items()}


def without_classifier(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


CASES: dict[str, Callable[[State], Any]] = {
    "torchvision": lambda state: state,
    "from DataParallel": lambda state: {"net": 1, "state_dict": prefixed("module.", state)},
    "torchvision's detector": lambda state: prefixed("backbone.body.", state) | {"rpn.head.conv.weight": torch.ones(1)},
    "torchvision's segmentation": lambda state: prefixed("backbone.", state) | {"classifier.4.weight": torch.ones(1)},
    "segmentation-models-pytorch": lambda state: prefixed("encoder.", state) | {"decoder.x": torch.ones(1)},
    "segmentation-models-pytorch by timm": lambda state: prefixed("encoder.model.", state),
    "a run of ours": lambda state: prefixed("backbone.", state) | {"heads.x.linear.weight": torch.ones(1)},
    "MMPretrain": lambda state: {
        "meta": {"epoch": 1},
        "state_dict": prefixed("backbone.", state) | {"head.fc.weight": torch.ones(1)},
    },
    "MMSegmentation, caffe": lambda state: {
        "meta": {"config": "style='caffe', img_norm_cfg = dict(mean=[103.53, 116.28, 123.675], std=[1, 1, 1], "
                 "to_rgb=False)"},
        "state_dict": prefixed("backbone.", bgr(state)) | {"decode_head.conv_seg.weight": torch.ones(1)},
    },
    "Detectron2": lambda state: {
        "model": prefixed("backbone.bottom_up.", bgr(detectron2(state))), "iteration": 7,
    },
    "Detectron2, backbone alone": lambda state: bgr(detectron2(state)),
    "Detectron2, converted": lambda state: {"model": detectron2(state), "__author__": "torchvision"},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_layout_gives_the_same_features(reference: nn.Module, tmp_path: Path, case: str) -> None:
    content = CASES[case](without_classifier(reference.state_dict()))
    if "converted" in case:  # written by pickle, in numpy's arrays
        content["model"] = {name: tensor.numpy() for name, tensor in content["model"].items()}
        path = tmp_path / "net.pkl"
        path.write_bytes(pickle.dumps(content))
    else:
        path = tmp_path / "net.pth"
        torch.save(content, path)
    net = build_backbone("resnet18")
    report = load_weights(net, path)
    assert len(report.loaded) == 100
    assert report.missing == report.misshaped == report.reshaped == report.warnings == ()
    for name, tensor in net.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, reference.state_dict()[name]), name
    library = next((name for name in ("Detectron2", "torchvision's ") if case.startswith(name)), "")
    library = "OpenMMLab" if case.startswith("MM") else library.removesuffix("'s ")
    assert report.origin.library == library
    assert (f"of {library}'s network" in str(report)) == bool(library)
    turned = case in ("MMSegmentation, caffe", "Detectron2", "Detectron2, backbone alone")
    assert report.origin.bgr == turned
    assert ("blue and red exchanged" in str(report)) == turned


def caffe2(state: State) -> dict[str, np.ndarray]:
    """By Caffe2's names, which know of no statistics: they go into scale and shift."""
    arrays = {}
    for key, tensor in bgr(without_classifier(state)).items():
        layer, _, kind = key.rpartition(".")
        if re.search(r"bn\d$|downsample\.1$", layer):
            scale = state[f"{layer}.weight"] / (state[f"{layer}.running_var"] + 1e-5).sqrt()
            shift = state[f"{layer}.bias"] - state[f"{layer}.running_mean"] * scale
            if kind not in ("weight", "bias"):
                continue
            tensor, suffix = (scale, "_bn_s") if kind == "weight" else (shift, "_bn_b")
        else:
            suffix = "_w"
        layer = re.sub(r"layer(\d)\.(\d)\.", lambda m: f"res{int(m[1]) + 1}_{m[2]}_", layer)
        layer = layer.replace("downsample.0", "branch1").replace("downsample.1", "branch1")
        if layer.startswith("res"):
            layer = re.sub(r"(conv|bn)(\d)$", lambda m: "branch2" + " abc"[int(m[2])], layer)
        arrays[{"bn1": "res_conv1"}.get(layer, layer) + suffix] = tensor.numpy()
    return arrays


def test_the_file_of_msra(reference: nn.Module, tmp_path: Path) -> None:
    arrays = caffe2(reference.state_dict())
    assert {"conv1_w", "res_conv1_bn_s", "res2_0_branch2a_w", "res5_1_branch2b_bn_b", "res3_0_branch1_w"} <= set(arrays)
    (tmp_path / "R-18.pkl").write_bytes(pickle.dumps({"blobs": {**arrays, "fc1000_w": np.ones(1)}}, 2))
    net = build_backbone("resnet18", norm="frozen_bn")
    report = load_weights(net, tmp_path / "R-18.pkl")
    assert len(report.loaded) == 100
    assert report.unexpected == ("fc1000_w",)
    assert report.origin.std == pytest.approx((1 / 255,) * 3)
    expected = build_backbone("resnet18").eval()
    expected.load_state_dict(without_classifier(reference.state_dict()))
    x = torch.randn(1, 3, 48, 48)
    for name, level in net(x).items():
        torch.testing.assert_close(level, expected(x)[name], rtol=1e-3, atol=1e-4)


def test_deep_stems_and_averaging_shortcuts_of_openmmlab(tmp_path: Path) -> None:
    reference = shaken(timm.create_model("resnet18d", num_classes=0))
    state = {}
    for name, tensor in reference.state_dict().items():
        name = re.sub(r"^conv1\.", "stem.", name)
        name = re.sub(r"^bn1\.", "stem.7.", name)
        assert "layer1.0.downsample" not in name
        state[f"backbone.{name}"] = tensor
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "x.pth")
    net = build_backbone("resnet18_v1d").eval()
    report = load_weights(net, tmp_path / "x.pth")
    assert report.missing == report.unexpected == report.misshaped == ()
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(net(x)["c5"], reference.forward_features(x), rtol=1e-4, atol=1e-4)


def test_the_first_shortcut_of_mmpretrain_is_numbered_otherwise(tmp_path: Path) -> None:
    with torch.device("meta"):
        own = build_backbone("resnet50_v1d").state_dict()
    assert "layer1.0.downsample.1.weight" in own
    state = {}
    for number, (name, tensor) in enumerate(own.items()):
        name = re.sub(r"^conv1\.", "stem.", name)
        name = re.sub(r"^bn1\.", "stem.7.", name)
        name = name.replace("layer1.0.downsample.1", "layer1.0.downsample.0")
        name = name.replace("layer1.0.downsample.2", "layer1.0.downsample.1")
        state[f"backbone.{name}"] = torch.full(tensor.shape, float(number)) if tensor.ndim else torch.tensor(number)
    save_file(state, tmp_path / "x.safetensors")
    net = build_backbone("resnet50_v1d")
    report = load_weights(net, tmp_path / "x.safetensors")
    assert report.missing == report.unexpected == report.misshaped == ()
    for number, (name, tensor) in enumerate(net.state_dict().items()):
        assert name.endswith("num_batches_tracked") or bool((tensor == number).all()), name


def test_squeeze_and_excitation_of_mmpretrain(tmp_path: Path) -> None:
    own = build_backbone("seresnet18").state_dict()
    state = {
        f"backbone.{name}".replace(".se.fc1.", ".se_layer.conv1.conv.").replace(".se.fc2.", ".se_layer.conv2.conv."): t
        for name, t in own.items()
    }
    assert any("se_layer" in name for name in state)
    save_file(state, tmp_path / "x.safetensors")
    report = load_weights(build_backbone("seresnet18"), tmp_path / "x.safetensors")
    assert report.missing == report.unexpected == report.misshaped == ()


@pytest.fixture(scope="module")
def bottlenecks() -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return without_classifier(torchvision.models.resnet50().state_dict())


def test_bottlenecks_that_stride_elsewhere_are_told(bottlenecks: State, tmp_path: Path) -> None:
    save_file({n: t.contiguous() for n, t in bgr(detectron2(bottlenecks)).items()}, tmp_path / "msra.safetensors")
    right, wrong = build_backbone("resnet50_v1"), build_backbone("resnet50")
    assert load_weights(right, tmp_path / "msra.safetensors").warnings == ()
    (line,) = load_weights(wrong, tmp_path / "msra.safetensors").warnings
    assert "stride in their first 1x1 convolution" in line
    assert "resnet50_v1" in line
    save_file(prefixed("backbone.body.", bottlenecks), tmp_path / "tv.safetensors")
    assert load_weights(wrong, tmp_path / "tv.safetensors").warnings == ()
    (line,) = load_weights(right, tmp_path / "tv.safetensors").warnings
    assert "stride in their 3x3 convolution" in line
    # The weights themselves say nothing of it.
    save_file(bottlenecks, tmp_path / "plain.safetensors")
    assert load_weights(right, tmp_path / "plain.safetensors").warnings == ()


def test_grey_images_from_blue_green_red(reference: nn.Module, tmp_path: Path) -> None:
    save_file(
        {n: t.contiguous() for n, t in bgr(detectron2(reference.state_dict())).items()}, tmp_path / "x.safetensors"
    )
    five = build_backbone("resnet18", in_channels=5)
    assert load_weights(five, tmp_path / "x.safetensors").reshaped == ("conv1.weight",)
    colours = reference.conv1.weight[:, [0, 1, 2, 0, 1]] * 3 / 5
    torch.testing.assert_close(five.conv1.weight, colours)


def test_an_encoder_with_its_decoder(tmp_path: Path) -> None:
    model = smp.Unet("resnet18", encoder_weights=None)
    save_file(model.state_dict(), tmp_path / "x.safetensors")
    net = build_backbone("resnet18")
    assert len(load_weights(net, tmp_path / "x.safetensors").loaded) == 100
    assert torch.equal(net.conv1.weight, model.encoder.conv1.weight)


class Calling:
    def __reduce__(self) -> Any:
        return eval, ("print('called')",)


def test_a_pickle_with_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"model": {"x": np.zeros(3), "y": Calling()}}))
    with pytest.raises(UserError, match=r"eval; expected only arrays"):
        load_weights(build_backbone("resnet18"), tmp_path / "x.pkl")
    assert "called" not in capsys.readouterr().out
