"""Fill a backbone from a file of weights, or from torchvision's and timm's published ones, and say what fitted."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn

from backbones.contract import Backbone
from backbones.errors import UserError
from backbones.layouts import Origin, Translation, translate
from backbones.weights_file import read_weights


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of the entries of a weights file and of a network. `str()` gives one line.

    Attributes:
        source: what was loaded, as it was asked for.
        loaded: entries of the network that took their values from the file.
        reshaped: those of `loaded` that were adapted to the number of image channels first.
        missing: entries of the network that the file lacks; they keep the values they had.
        misshaped: entries in both, of different shape; they keep the values they had.
        unexpected: entries of the file that the network has no place for, e.g. `fc.weight`.
        origin: what is known about how the weights were trained.
        warnings: what the network should have otherwise, for the weights to do what they did where they come from.
    """

    source: str
    loaded: tuple[str, ...]
    reshaped: tuple[str, ...]
    missing: tuple[str, ...]
    misshaped: tuple[str, ...]
    unexpected: tuple[str, ...]
    origin: Origin
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.misshaped)
        library = f" of {self.origin.library}'s network" if self.origin.library else ""
        turned = ", blue and red exchanged" if self.origin.bgr else ""
        parts = [f"{self.source}: loaded {len(self.loaded)} of {total} entries{library}{turned}"]
        for label in ("reshaped", "missing", "misshaped", "unexpected"):
            names: tuple[str, ...] = getattr(self, label)
            if names:
                parts.append(f"{len(names)} {label} ({_some(names)})")
        return ", ".join(parts)


def load_weights(backbone: Backbone, source: str | Path) -> LoadReport:
    """Copy weights into `backbone` by name, cast to its types; nothing is changed when they are refused.

    A first convolution for 3 channels is adapted to other images: for one channel its kernels are summed over the
    colours, so that a grey image gives what it would give as RGB; for N channels they are repeated in turn and
    scaled by 3 / N. One that was trained on blue, green, red is turned round. BatchNorm files fit `frozen_bn` and
    `sync_bn`; a `gn` network takes their scale and shift, and their statistics are reported as unexpected.

    Args:
        backbone: the network to fill.
        source: a file, as `read_weights` takes them, of a backbone alone or of a model around it, by
            the names of torchvision, timm, segmentation-models-pytorch, Detectron2 or OpenMMLab; or
            `torchvision/NAME[.WEIGHTS]`, e.g. `torchvision/resnet50.IMAGENET1K_V2`, or `timm/NAME[.TAG]`, which are
            downloaded once into the cache (`backbones.download.cache_folder`); without WEIGHTS or TAG, the library's
            default.

    Raises:
        UserError: no such file or name, no connection, a damaged file or one that needs unpickling, or less than half
            of the network's entries fit, or more than a tenth of them have another shape in the file.
    """
    own = backbone.state_dict()
    translated = translate(read_weights(_locate(source)), own)
    given = backbone.adapt_weights(translated.tensors)
    warnings = [*stride_warnings(backbone, translated.origin), *_depth_warnings(backbone, translated, given)]
    report, fitting = fit(str(source), own, given, backbone.in_channels, translated.origin, warnings)
    total = len(report.loaded) + len(report.missing) + len(report.misshaped)
    if 2 * len(fitting) < total or 10 * len(report.misshaped) > total:
        raise UserError(
            f"{source}: only {len(fitting)} of {total} entries of {type(backbone).__name__} fit (the file has "
            f"{_some(given)}; missing {_some(report.missing)}; of another shape "
            f"{_some(report.misshaped)}); give the weights of this architecture"
        )
    backbone.load_state_dict(fitting, strict=False)
    return report


def fit(
    source: str,
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    in_channels: int,
    origin: Origin,
    warnings: Sequence[str],
) -> tuple[LoadReport, dict[str, Tensor]]:
    """Which entries of a file a network can take, and their values.

    Args:
        source: what is loaded, as it was asked for.
        own: the network's entries. Norms' counters of batches are left out: they take no part in the arithmetic.
        given: the file's, by the network's names.
        in_channels: channels of the network's images, which weights for 3 channels are adapted to.
        origin: how the weights were trained.
        warnings: for the report.

    Raises:
        UserError: a value that the network would take is not finite.
    """
    own = {name: tensor for name, tensor in own.items() if not name.endswith("num_batches_tracked")}
    fitting: dict[str, Tensor] = {}
    reshaped, misshaped = [], []
    for name, target in own.items():
        if name not in given:
            continue
        tensor = given[name]
        adapted = _adapt_channels(tensor, target, in_channels)
        if tensor.shape == target.shape:
            fitting[name] = tensor
        elif adapted is not None:
            fitting[name] = adapted
            reshaped.append(name)
        else:
            misshaped.append(name)
    for name, tensor in fitting.items():
        if not tensor.isfinite().all():
            raise UserError(f"{source}: {name} has values that are no finite numbers; give weights saved before that")
    unexpected = [name for name in given if name not in own and not name.endswith("num_batches_tracked")]
    missing = [name for name in own if name not in given]
    report = LoadReport(
        source,
        loaded=tuple(fitting),
        reshaped=tuple(reshaped),
        missing=tuple(missing),
        misshaped=tuple(misshaped),
        unexpected=tuple(unexpected),
        origin=origin,
        warnings=tuple(warnings),
    )
    return report, fitting


def stride_warnings(backbone: Backbone, origin: Origin) -> list[str]:
    """A line where the weights' bottlenecks and those of `backbone` stride in different convolutions."""
    modules = dict(backbone.named_modules())
    first, last = modules.get("layer2.0.conv1"), modules.get("layer2.0.conv3")
    if origin.stride_in_1x1 is None or not isinstance(first, nn.Conv2d) or last is None:
        return []
    if (first.stride != (1, 1)) == origin.stride_in_1x1:
        return []
    where, such = ("first 1x1", "resnet50_v1") if origin.stride_in_1x1 else ("3x3", "resnet50")
    return [
        f"the weights are of bottlenecks that stride in their {where} convolution, those of {type(backbone).__name__} "
        f"do not; the shapes fit, the features do not: set --backbone.name to such a network, like {such}"
    ]


def _depth_warnings(backbone: Backbone, translated: Translation, given: Mapping[str, Tensor]) -> list[str]:
    """Lines where the file's network has layers that `backbone` lacks, or lacks some that it has."""
    network, found = type(backbone).__name__, translated.names
    statistics = ("running_mean", "running_var", "num_batches_tracked")  # other norms do without
    missing = [name for name in backbone.state_dict() if name not in given and not name.endswith(statistics)]
    lines = []
    if missing:
        lines.append(
            f"{len(missing)} entries of {network} are not among the weights ({_some(missing)}) and start at random; if "
            "that was not meant, give the weights of this architecture"
        )
    # The modules that weights were found in, without those that hold all of them: of backbone.body.layer1.0.conv1 of a
    # detector, layer1, layer1.0 and layer1.0.conv1.
    paths = [set(_ancestors(theirs)) for theirs in found.values()]
    modules: set[str] = set().union(*paths) - paths[0].intersection(*paths) if paths else set()
    further = [
        name
        for name in translated.tensors
        if name not in found and not name.endswith(statistics) and not modules.isdisjoint(_ancestors(name))
    ]
    if further:
        lines.append(
            f"the weights are of a network with {len(further)} entries more ({_some(further)}) in the same stages, "
            f"which {network} has no place for; the features are not those of that network: name it with "
            "--backbone.name"
        )
    return lines


def _ancestors(name: str) -> Iterator[str]:
    """`layer1` and `layer1.0` of `layer1.0.weight`."""
    return accumulate(name.split(".")[:-1], "{}.{}".format)


def _adapt_channels(weight: Tensor, target: Tensor, in_channels: int) -> Tensor | None:
    """(O, 3, h, w) as the (O, in_channels, h, w) of `target`; None where it is not that case."""
    if weight.ndim != 4 or weight.shape[1] != 3 or target.shape != (len(weight), in_channels, *weight.shape[2:]):
        return None
    weight = weight.float()
    if in_channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, torch.arange(in_channels) % 3] * (3 / in_channels)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join([*names[:3], "..."] if len(names) > 3 else names) or "none"


def _locate(source: str | Path) -> Path:
    """The local file that `source` means, downloading it if need be."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    library, _, name = str(source).partition("/")
    if library == "torchvision" and name:
        return _torchvision_file(name)
    if library == "timm" and name:
        return _timm_file(name)
    raise UserError(
        f"weights {str(source)!r}: no such file; give a .safetensors, .pth or .pt file, or a name such as "
        "torchvision/resnet50.IMAGENET1K_V2 or timm/resnet50.a1_in1k"
    )


def _torchvision_file(name: str) -> Path:
    from torchvision.models import get_model_weights, list_models

    from backbones.download import cache_folder, download

    model, _, tag = name.partition(".")
    if model not in list_models():
        raise _unknown(f"torchvision/{name}", "model", model, list_models())
    choices = get_model_weights(model)
    if tag and tag not in choices.__members__:
        raise _unknown(f"torchvision/{name}", "weights", tag, list(choices.__members__))
    url: str = choices[tag or "DEFAULT"].url
    file = url.rsplit("/", 1)[-1]
    checksum = re.search(r"[-_]([0-9a-f]{8,64})\.\w+$", file)  # torchvision's convention, as of torch.hub
    if checksum is None:
        raise UserError(f"weights torchvision/{name}: {url} has no checksum in its name; fetch it and give its path")
    return download(url, cache_folder() / "weights" / file, checksum[1])


def _timm_file(name: str) -> Path:
    import timm
    from huggingface_hub import hf_hub_url

    from backbones.download import cache_folder, download

    known = timm.list_pretrained()
    if name not in known and name not in {entry.partition(".")[0] for entry in known}:
        raise _unknown(f"timm/{name}", "pretrained model", name, known)
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise UserError(f"weights timm/{name}: timm names no place on the Hugging Face hub; fetch it and give its path")
    file = f"{config.architecture}.{config.tag}.safetensors"
    return download(hf_hub_url(config.hf_hub_id, "model.safetensors"), cache_folder() / "weights" / "timm" / file)


def _unknown(source: str, kind: str, value: str, known: list[str]) -> UserError:
    near = difflib.get_close_matches(value, known, n=3, cutoff=0.5) or known[:8]
    return UserError(f"weights {source}: no {kind} {value!r}; did you mean {', '.join(near)}?")
