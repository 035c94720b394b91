"""Fill a backbone from a file of weights, or from torchvision's and timm's published ones, and say what fitted."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from backbones.contract import Backbone
from backbones.errors import UserError


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
    """

    source: str
    loaded: tuple[str, ...]
    reshaped: tuple[str, ...]
    missing: tuple[str, ...]
    misshaped: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.misshaped)
        parts = [f"{self.source}: loaded {len(self.loaded)} of {total} entries"]
        for label in ("reshaped", "missing", "misshaped", "unexpected"):
            names: tuple[str, ...] = getattr(self, label)
            if names:
                parts.append(f"{len(names)} {label} ({_some(names)})")
        return ", ".join(parts)


def load_weights(backbone: Backbone, source: str | Path) -> LoadReport:
    """Copy weights into `backbone` by name, cast to its types; nothing is changed when they are refused.

    A first convolution for 3 channels is adapted to other images: for one channel its kernels are summed over the
    colours, so that a grey image gives what it would give as RGB; for N channels they are repeated in turn and
    scaled by 3 / N. BatchNorm files fit `frozen_bn` and `sync_bn`; a `gn` network takes their scale and shift, and
    their statistics are reported as unexpected.

    Args:
        backbone: the network to fill.
        source: a `.safetensors`, `.pth` or `.pt` file; or `torchvision/NAME[.WEIGHTS]`, e.g.
            `torchvision/resnet50.IMAGENET1K_V2`, or `timm/NAME[.TAG]`, which are downloaded once into the cache
            (`backbones.download.cache_folder`); without WEIGHTS or TAG, the library's default.

    Raises:
        UserError: no such file or name, no connection, a damaged file or one that needs unpickling, or less than half
            of the network's entries fit.
    """
    given = read_weights(_locate(source))
    own = {name: tensor for name, tensor in backbone.state_dict().items() if not name.endswith(".num_batches_tracked")}
    fitting: dict[str, Tensor] = {}
    reshaped, misshaped = [], []
    for name, target in own.items():
        if name not in given:
            continue
        tensor = given[name]
        adapted = _adapt_channels(tensor, target, backbone.in_channels)
        if tensor.shape == target.shape:
            fitting[name] = tensor
        elif adapted is not None:
            fitting[name] = adapted
            reshaped.append(name)
        else:
            misshaped.append(name)
    unexpected = [name for name in given if name not in own and not name.endswith(".num_batches_tracked")]
    missing = [name for name in own if name not in given]
    if 2 * len(fitting) < len(own):
        raise UserError(
            f"{source}: only {len(fitting)} of {len(own)} entries of {type(backbone).__name__} fit (the file has "
            f"{_some(given)}; missing {_some(missing)}; of another shape {_some(misshaped)}); "
            "give the weights of this architecture"
        )
    backbone.load_state_dict(fitting, strict=False)
    return LoadReport(str(source), tuple(fitting), tuple(reshaped), tuple(missing), tuple(misshaped), tuple(unexpected))


def _adapt_channels(weight: Tensor, target: Tensor, in_channels: int) -> Tensor | None:
    """(O, 3, h, w) as the (O, in_channels, h, w) of `target`; None where it is not that case."""
    if weight.ndim != 4 or weight.shape[1] != 3 or target.shape != (len(weight), in_channels, *weight.shape[2:]):
        return None
    weight = weight.float()
    if in_channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, torch.arange(in_channels) % 3] * (3 / in_channels)


def _some(names: "tuple[str, ...] | list[str] | dict[str, Tensor]") -> str:
    first = list(names)[:3]
    return ", ".join([*first, "..."] if len(names) > 3 else first) or "none"


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


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.pth` or `.pt` file by name, on the CPU, in the types they are stored in.

    Raises:
        UserError: the file is missing, damaged, of another kind, or needs unpickling of more than tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: object = load_file(path)
        elif path.suffix in (".pth", ".pt"):
            # weights_only: unpickling anything else could run whatever code its author put there.
            content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise UserError(f"{path}: weights are read from .safetensors, .pth or .pt files; this is {path.suffix!r}")
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in the reader
        if "weights_only" in str(error).lower() or "weights only" in str(error).lower():
            raise UserError(
                f"{path}: refused, for it holds more than tensors and reading that could run code hidden in it; "
                "save its state_dict() alone, best as .safetensors, and give that"
            ) from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: cannot be read as weights ({reason}); fetch or copy the file again") from error
    # Training scripts tend to save the state dict beside epoch, optimizer and so on.
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    entries = content.items() if isinstance(content, dict) else ()
    tensors = {name: value for name, value in entries if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no tensors by name; save a state_dict() and give that")
    return tensors
