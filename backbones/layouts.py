"""How other libraries name the parameters of a backbone, and what they trained it on.

Each layout translates our names into the library's, so that one table serves reading and writing. docs/weights.md tells
what each library does differently.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from backbones.weights_file import WeightsFile

Colours = tuple[float, float, float]
IMAGENET_MEAN: Colours = (0.485, 0.456, 0.406)
IMAGENET_STD: Colours = (0.229, 0.224, 0.225)
UNSCALED: Colours = (1 / 255,) * 3  # of networks that take pixels of 0 to 255, less their mean


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known about how weights were trained, as far as using them needs it.

    Attributes:
        library: which one wrote them; empty where nothing tells.
        bgr: the network was trained on images in the order blue, green, red; its first convolution is turned round when
            it is read.
        mean: of red, green and blue, which the images had subtracted, of pixels from 0 to 1; None where nothing tells.
        std: what they were divided by then.
        stride_in_1x1: bottlenecks stride in their first 1x1 convolution, not in the 3x3; None where nothing tells.
    """

    library: str = ""
    bgr: bool = False
    mean: Colours | None = None
    std: Colours | None = None
    stride_in_1x1: bool | None = None


@dataclass(frozen=True, slots=True)
class BackboneLayout:
    """A way to name the parameters of a backbone.

    Attributes:
        prefixes: what may stand before all names.
        names: gives their name of each of our names.
        origin: tells what a file in this layout was trained on.
    """

    prefixes: tuple[str, ...]
    names: Callable[[Iterable[str]], dict[str, str]]
    origin: Callable[[WeightsFile], Origin]


def same_names(names: Iterable[str]) -> dict[str, str]:
    """torchvision's, timm's and segmentation-models-pytorch's names are ours."""
    return {name: name for name in names}


def old_densenet_names(names: Iterable[str]) -> dict[str, str]:
    """torchvision's files of DenseNets are older than its code: `denselayer1.norm1` is `denselayer1.norm.1` there."""
    return {name: re.sub(r"(\.denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", name) for name in names}


def detectron2_names(names: Iterable[str]) -> dict[str, str]:
    """`layer1.0.bn1.weight` is `res2.0.conv1.norm.weight`; what lies before the stages is in `stem`."""
    return {name: _detectron2(name) for name in names}


def _detectron2(name: str) -> str:
    stage = re.match(r"layer(\d)\.", name)
    if stage is None:
        return "stem." + name.replace("bn1.", "conv1.norm.")
    name = name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    return f"res{int(stage[1]) + 1}." + re.sub(r"\bbn(\d)\.", r"conv\1.norm.", name[stage.end() :])


def openmmlab_names(names: Iterable[str]) -> dict[str, str]:
    """OpenMMLab's are torchvision's, but for a stem of three convolutions (v1c, v1d) and squeeze and excitation."""
    names = list(names)
    deep = any(name.startswith("conv1.0.") for name in names)
    return {name: _openmmlab(name, deep) for name in names}


def mmpretrain_names(names: Iterable[str]) -> dict[str, str]:
    """As `openmmlab_names`, but a shortcut of v1d that has nothing to average is numbered from its convolution on."""
    moved = {"layer1.0.downsample.1.": "layer1.0.downsample.0.", "layer1.0.downsample.2.": "layer1.0.downsample.1."}
    return {
        ours: next((new + theirs.removeprefix(old) for old, new in moved.items() if theirs.startswith(old)), theirs)
        for ours, theirs in openmmlab_names(names).items()
    }


def _openmmlab(name: str, deep: bool) -> str:
    if deep:
        name = re.sub(r"^conv1\.(\d)\.", r"stem.\1.", name)
        name = re.sub(r"^bn1\.", "stem.7.", name)
    return re.sub(r"\.se\.fc(\d)\.", r".se_layer.conv\1.conv.", name)


def detectron2_origin(file: WeightsFile) -> Origin:
    """Detectron2's own networks come from MSRA's; a file may say otherwise by its author or its pixel values."""
    mean, std = file.tensors.get("pixel_mean"), file.tensors.get("pixel_std")
    if mean is not None and std is not None and mean.numel() == std.numel() == 3:
        colours, deviations = mean.flatten().tolist(), std.flatten().tolist()
        bgr = colours[0] < colours[2]  # of photographs, red is the brightest; theirs are 123.7, 116.3 and 103.5
        unscaled = deviations == [1.0, 1.0, 1.0]
        order = slice(None, None, -1 if bgr else 1)
        return Origin("Detectron2", bgr, _of_255(colours[order]), _of_255(deviations[order]), unscaled or None)
    if file.author == "torchvision":
        return Origin("Detectron2", False, IMAGENET_MEAN, IMAGENET_STD, False)
    return Origin("Detectron2", True, IMAGENET_MEAN, UNSCALED, True)


def openmmlab_origin(file: WeightsFile) -> Origin:
    """What the configuration in the file says; without one, what most of OpenMMLab's do.

    torchvision's segmentation models and our own begin with `backbone` as well; their heads tell them apart.
    """
    if any(name.startswith("heads.") for name in file.tensors):
        return Origin()
    if any(name.startswith("classifier.") for name in file.tensors):
        return torchvision_origin(file)
    origin = Origin("OpenMMLab", False, IMAGENET_MEAN, IMAGENET_STD)
    style = re.search(r"\bstyle\s*=\s*['\"](caffe|pytorch)['\"]", file.config)
    if style:
        origin = replace(origin, stride_in_1x1=style[1] == "caffe")
    to_rgb = re.search(r"\b(?:bgr_)?to_rgb\s*=\s*(True|False)", file.config)
    mean, std = (_numbers(key, file.config) for key in ("mean", "std"))
    if to_rgb and mean and std:
        bgr = to_rgb[1] == "False"
        order = slice(None, None, -1 if bgr else 1)
        origin = replace(origin, bgr=bgr, mean=_of_255(mean[order]), std=_of_255(std[order]))
    return origin


def _numbers(key: str, config: str) -> list[float] | None:
    found = re.search(rf"\b{key}\s*=\s*[\[(]([\d.,\s]+)[\])]", config)
    numbers = [float(number) for number in found[1].split(",") if number.strip()] if found else []
    return numbers if len(numbers) == 3 else None


def _of_255(values: list[float]) -> Colours:
    red, green, blue = (value / 255 for value in values)
    return red, green, blue


def _unknown(_: WeightsFile) -> Origin:
    return Origin()


def torchvision_origin(_: WeightsFile) -> Origin:
    """All of torchvision's."""
    return Origin("torchvision", False, IMAGENET_MEAN, IMAGENET_STD, False)


DETECTRON2 = BackboneLayout(("backbone.bottom_up.", "bottom_up.", ""), detectron2_names, detectron2_origin)
OPENMMLAB = BackboneLayout(("backbone.",), openmmlab_names, openmmlab_origin)
TORCHVISION_DETECTOR = BackboneLayout(("backbone.body.",), same_names, torchvision_origin)
ENCODER = BackboneLayout(("encoder.", "encoder.model."), same_names, _unknown)
IN_FEATURES = ("features.", "encoder.features.")  # torchvision's and timm's DenseNets, and smp's of torchvision's
# Of layouts under which as many names are found, the first counts.
LAYOUTS = (
    BackboneLayout(("", "model."), same_names, _unknown),  # the second from within a Lightning module
    TORCHVISION_DETECTOR,
    ENCODER,
    OPENMMLAB,
    BackboneLayout(("backbone.",), mmpretrain_names, openmmlab_origin),
    DETECTRON2,
    BackboneLayout(IN_FEATURES, same_names, _unknown),
    BackboneLayout(IN_FEATURES, old_densenet_names, _unknown),
)


@dataclass(frozen=True, slots=True)
class Translation:
    """A file of weights by the names of a backbone of ours.

    Attributes:
        tensors: by our names where we have one, else by the file's.
        names: the file's name of each of ours that it has.
        origin: how the weights were trained.
    """

    tensors: dict[str, Tensor]
    names: dict[str, str]
    origin: Origin


def translate(file: WeightsFile, own: Collection[str], layouts: Iterable[BackboneLayout] = LAYOUTS) -> Translation:
    """Find the layout under which a file has most of a backbone's names, and apply it.

    Args:
        file: the weights, of a backbone alone or of a model around it.
        own: names of the backbone's parameters and buffers.
        layouts: to look for.
    """
    tensors = from_caffe2(file.tensors)
    best: dict[str, str] = {}
    layout: BackboneLayout | None = None
    for candidate in layouts:
        theirs = candidate.names(own)
        for prefix in candidate.prefixes:
            found = {name: prefix + their for name, their in theirs.items() if prefix + their in tensors}
            if len(found) > len(best):
                best, layout = found, candidate
    origin = layout.origin(replace(file, tensors=tensors)) if layout else Origin()
    back = {theirs: ours for ours, theirs in best.items()}
    given = {back.get(name, name): tensor for name, tensor in tensors.items()}
    if origin.bgr:
        given |= {name: turned_round(given[name]) for name in best}
    return Translation(given, best, origin)


def turned_round(weight: Tensor) -> Tensor:
    """The weight of a first convolution, with the input's colours in the other order; any other one as it is."""
    return weight.flip(1) if weight.ndim == 4 and weight.shape[1] == 3 else weight


CAFFE2_NORM = {"bn_s": "norm.weight", "bn_b": "norm.bias", "bn_rm": "norm.running_mean", "bn_riv": "norm.running_var"}
CAFFE2_CONVOLUTION = {"branch1": "shortcut", "branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3"}


def from_caffe2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Caffe2's names of a ResNet, as in Detectron2's file R-50.pkl of MSRA's weights, as Detectron2's.

    Its norms are a scale and a shift alone: their statistics become those that change nothing.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        block = re.fullmatch(r"(res\d)_(\d+)_(branch\d[abc]?)_(w|bn_\w+)", name)
        stem = re.fullmatch(r"(?:res_)?conv1_(w|bn_\w+)", name)
        if block:
            layer, kind = f"{block[1]}.{block[2]}.{CAFFE2_CONVOLUTION.get(block[3], block[3])}", block[4]
        elif stem:
            layer, kind = "stem.conv1", stem[1]
        else:
            named[name] = tensor
            continue
        named[f"{layer}.{CAFFE2_NORM.get(kind, 'weight')}"] = tensor
        if kind == "bn_s":
            named.setdefault(f"{layer}.norm.running_mean", torch.zeros_like(tensor))
            named.setdefault(f"{layer}.norm.running_var", torch.full_like(tensor, 1 - 1e-5))  # and 1e-5 are added
    return named
