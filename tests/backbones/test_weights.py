"""Weights by name from files and from fake servers: what fits, what is adapted, what is refused."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from backbones import Backbone, UserError, build_backbone, load_weights


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights of a torchvision ResNet-18, classifier included, that no other test would draw."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = torchvision.models.resnet18()
        net(torch.randn(4, 3, 32, 32))  # statistics that are not the neutral ones
    return net.state_dict()


@pytest.fixture
def file(state: dict[str, Tensor], tmp_path: Path) -> Path:
    save_file(state, tmp_path / "r18.safetensors")
    return tmp_path / "r18.safetensors"


def refused(net: Backbone, source: str | Path) -> str:
    """The one line with which `source` is refused; the network is as it was."""
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_weights(net, source)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_torchvision_file_loads_whole(state: dict[str, Tensor], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"r18{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if suffix == ".pt" else state, path)
    net = build_backbone("resnet18")
    report = load_weights(net, str(path))
    assert len(report.loaded) == 100
    assert report.missing == report.misshaped == report.reshaped == ()
    assert set(report.unexpected) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(net.get_parameter(name), state[name]) for name, _ in net.named_parameters())
    assert str(report) == f"{path}: loaded 100 of 100 entries, 2 unexpected ({', '.join(report.unexpected)})"


def test_half_precision_is_cast(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({name: t.half() if t.is_floating_point() else t for name, t in state.items()}, tmp_path / "w.safetensors")
    net = build_backbone("resnet18")
    load_weights(net, tmp_path / "w.safetensors")
    assert {tensor.dtype for tensor in net.parameters()} == {torch.float32}
    assert torch.equal(net.conv1.weight, state["conv1.weight"].half().float())


def test_batch_norm_file_into_frozen_norm_gives_the_same_features(file: Path) -> None:
    plain, frozen = build_backbone("resnet18"), build_backbone("resnet18", norm="frozen_bn")
    for net in (plain, frozen):
        report = load_weights(net, file)
        assert len(report.loaded) == 100
    x = torch.randn(1, 3, 48, 48)
    torch.testing.assert_close(plain.eval()(x), frozen(x), rtol=1e-5, atol=1e-5)


def test_batch_norm_file_into_group_norm_keeps_scale_and_shift(file: Path, state: dict[str, Tensor]) -> None:
    net = build_backbone("resnet18", norm="gn")
    report = load_weights(net, file)
    assert report.missing == ()
    assert "bn1.running_mean" in report.unexpected
    assert torch.equal(net.bn1.weight, state["bn1.weight"])


def test_one_channel_sees_a_grey_image_as_the_rgb_network_does(file: Path) -> None:
    rgb, grey = build_backbone("resnet18").eval(), build_backbone("resnet18", in_channels=1).eval()
    load_weights(rgb, file)
    assert load_weights(grey, file).reshaped == ("conv1.weight",)
    x = torch.randn(1, 1, 48, 48)
    torch.testing.assert_close(grey(x), rgb(x.expand(1, 3, 48, 48)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [2, 5, 6])
def test_other_channels_repeat_the_colours_in_turn(file: Path, state: dict[str, Tensor], channels: int) -> None:
    net = build_backbone("resnet18", in_channels=channels)
    assert load_weights(net, file).reshaped == ("conv1.weight",)
    for channel in range(channels):
        torch.testing.assert_close(net.conv1.weight[:, channel], state["conv1.weight"][:, channel % 3] * 3 / channels)


def test_missing_and_misshaped_entries_are_told_and_kept(state: dict[str, Tensor], tmp_path: Path) -> None:
    partial = {name: tensor for name, tensor in state.items() if name != "layer1.0.conv1.weight"}
    partial["layer4.1.bn2.bias"] = torch.zeros(7)
    save_file(partial, tmp_path / "w.safetensors")
    net = build_backbone("resnet18")
    kept = net.layer1[0].conv1.weight.clone()
    report = load_weights(net, tmp_path / "w.safetensors")
    assert report.missing == ("layer1.0.conv1.weight",)
    assert report.misshaped == ("layer4.1.bn2.bias",)
    assert torch.equal(net.layer1[0].conv1.weight, kept)
    assert "98 of 100 entries, 1 missing (layer1.0.conv1.weight), 1 misshaped (layer4.1.bn2.bias)" in str(report)


def test_weights_of_another_architecture_are_refused(file: Path, tmp_path: Path) -> None:
    assert "only 77 of 265 entries of resnet50 fit" in refused(build_backbone("resnet50"), file)
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert "only 0 of 100 entries of resnet18 fit" in refused(build_backbone("resnet18"), tmp_path / "a.safetensors")


class Planted:
    """Unpickling this would create a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, writer: str) -> None:
    path, folder = tmp_path / "evil.pth", tmp_path / "planted"
    if writer == "torch":
        torch.save({"conv1.weight": Planted(folder)}, path)
    else:
        path.write_bytes(pickle.dumps({"conv1.weight": Planted(folder)}, protocol=2))
    message = refused(build_backbone("resnet18"), path)
    assert f"{path}: refused, for it holds more than tensors" in message
    assert not folder.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("keep", [0, 5, 1000, -100])
def test_damaged_files_are_refused(state: dict[str, Tensor], tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:keep])
    assert str(path) in refused(build_backbone("resnet18"), path)


def test_files_that_are_no_state_dict_are_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    (tmp_path / "net.onnx").write_bytes(b"onnx")
    net = build_backbone("resnet18")
    assert "holds no tensors by name" in refused(net, tmp_path / "list.pth")
    assert "this is '.onnx'" in refused(net, tmp_path / "net.onnx")
    assert "no such file" in refused(net, tmp_path / "none.pth")


def test_torchvision_name_is_downloaded(
    server: Any, cache: Path, file: Path, state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "r18.pth")
    content = (tmp_path / "r18.pth").read_bytes()
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    monkeypatch.setattr(weights.value, "url", server.serve(f"/models/{name}", content))
    for source in ("torchvision/resnet18", "torchvision/resnet18.IMAGENET1K_V1"):
        net = build_backbone("resnet18")
        assert len(load_weights(net, source).loaded) == 100
        assert torch.equal(net.conv1.weight, state["conv1.weight"])
    assert len(server.requests) == 1
    assert (cache / "weights" / name).read_bytes() == content


def test_timm_name_is_downloaded(
    server: Any, cache: Path, file: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = file.read_bytes()
    template = "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE"
    monkeypatch.setattr(template, server.url + "/{repo_id}/resolve/{revision}/{filename}")
    checksum = {"X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
    server.serve("/blob", content)
    server.serve("/timm/resnet18.tv_in1k/resolve/main/model.safetensors", redirect="/blob", headers=checksum)
    net = build_backbone("resnet18")
    assert len(load_weights(net, "timm/resnet18.tv_in1k").loaded) == 100
    assert torch.equal(net.conv1.weight, state["conv1.weight"])
    assert (cache / "weights" / "timm" / "resnet18.tv_in1k.safetensors").is_file()
    server.files.clear()  # from here on, the cache has to do
    load_weights(net, "timm/resnet18.tv_in1k")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("torchvision/resnet5", "no model 'resnet5'; did you mean resnet50"),
        ("torchvision/resnet50.V3", "no weights 'V3'; did you mean IMAGENET1K_V1, IMAGENET1K_V2"),
        ("timm/resnet18.tv", "did you mean resnet18.tv_in1k"),
        ("timm/rsnet18", "did you mean resnet18"),
        ("resnet50", "a name such as torchvision/resnet50"),
    ],
)
def test_unknown_names_give_near_ones(source: str, expected: str) -> None:
    message = refused(build_backbone("resnet18"), source)
    assert f"{source}" in message
    assert expected in message


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_real_weights_load_whole(reference_data: Path, name: str) -> None:
    net = build_backbone(name)
    report = load_weights(net, reference_data / "weights" / f"{name}_imagenet_pq.safetensors")
    assert report.missing == report.misshaped == report.reshaped == ()
    assert set(report.unexpected) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("ending", [".th", ".pth.tar", ".ckpt", ".bin"])
def test_files_as_training_scripts_name_and_wrap_them(state: dict[str, Tensor], tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w{ending}"
    wrapper = {".th": "module.", ".pth.tar": "module._orig_mod.", ".ckpt": "model.", ".bin": ""}[ending]
    key = {".ckpt": "state_dict", ".bin": "model_state_dict"}.get(ending, "model")
    torch.save({"epoch": 3, key: {wrapper + name: tensor for name, tensor in state.items()}}, path)
    net = build_backbone("resnet18")
    assert len(load_weights(net, path).loaded) == 100
    assert torch.equal(net.conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize("kind", ["sparse", "complex", "nan"])
def test_tensors_that_are_no_plain_numbers_are_refused(state: dict[str, Tensor], tmp_path: Path, kind: str) -> None:
    name = "layer1.0.conv1.weight"
    change = {"sparse": Tensor.to_sparse, "complex": lambda weight: weight + 1j, "nan": lambda weight: weight / 0}
    torch.save({**state, name: change[kind](state[name])}, tmp_path / "w.pth")
    complaint = refused(build_backbone("resnet18"), tmp_path / "w.pth")
    assert name in complaint
    assert "finite" in complaint if kind == "nan" else kind in complaint


def test_weights_of_another_shape_are_refused_though_most_names_fit(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet50().state_dict(), tmp_path / "r50.pth")
    assert "only 77 of 100 entries of resnet18 fit" in refused(build_backbone("resnet18"), tmp_path / "r50.pth")


@pytest.mark.parametrize("prefix", ["", "backbone.body.", "encoder."])
def test_weights_of_another_depth_are_told(tmp_path: Path, prefix: str) -> None:
    files = {}
    for name in ("resnet18", "resnet34"):
        files[name] = tmp_path / f"{name}.pth"
        weights = {prefix + key: tensor for key, tensor in build_backbone(name).state_dict().items()}
        around = {"backbone.fpn.weight": torch.zeros(1), "decoder.blocks.0.conv1.weight": torch.zeros(1)}
        torch.save({**weights, **around}, files[name])
        assert load_weights(build_backbone(name), files[name]).warnings == ()
    (told,) = load_weights(build_backbone("resnet18"), files["resnet34"]).warnings
    assert f"48 entries more ({prefix}layer1.2.conv1.weight, " in told
    (told,) = load_weights(build_backbone("resnet34"), files["resnet18"]).warnings
    assert told.startswith("48 entries of resnet34 are not among the weights (layer1.2.conv1.weight, ")
