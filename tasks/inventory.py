"""What can be chosen: backbones, heads and configs, with their size."""

import contextlib
import fnmatch
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import configs
from backbones import FeatureSpec, UserError, backbones, build_backbone
from backbones.timm_networks import network_names
from heads import Head, ImageSizes, Targets, heads
from tasks.data.sample import Batch
from tasks.experiment_file import read_experiment
from tasks.label_map import LabelMap
from tasks.model import Model, build_model
from tasks.multiply_adds import multiply_adds
from tasks.progress import Reporter

COCO_CLASSES = LabelMap(ids=tuple(range(1, 81)), names=tuple(f"class {index}" for index in range(1, 81)))


MOST_MEASURED = 40
"""Of more of timm's networks than this only the names are told."""


@dataclass(frozen=True, slots=True)
class BackboneSize:
    """What a backbone costs.

    Attributes:
        name: as registered.
        parameters: its weights and biases.
        multiply_adds: for one square RGB image.
        side: of that image, in pixels: 32 for networks that are made for small images, 224 for others.
        features: its levels.
    """

    name: str
    parameters: int
    multiply_adds: int
    side: int
    features: dict[str, FeatureSpec]

    @property
    def levels(self) -> str:
        """`c1 64/2, c2 256/4, ...`: channels and stride of each level."""
        return ", ".join(f"{level} {spec.channels}/{spec.stride}" for level, spec in self.features.items())


def show_inventory(what: str) -> None:
    """Print the tables of "backbones", "heads", "configs" or "all", or of the backbones that a pattern matches.

    Raises:
        UserError: `what` is none of these, and no backbone is called that.
    """
    reporter = Reporter()
    if what not in ("all", "backbones", "heads", "configs"):
        _show_backbones(reporter, _matching(what))
    if what in ("all", "backbones"):
        _show_backbones(reporter, backbones.names())
        reporter.say(
            "any network of timm's is a backbone as well, as timm/NAME; "
            "some of them: python tools/list.py 'timm/convnext_*'"
        )
    if what in ("all", "heads"):
        sizes = []
        for name in heads.names():
            stride, head = widest_stride(name)
            sizes.append((name, _millions(parameters(head)), str(stride)))
        reporter.table("heads, on resnet50 with 80 classes", ("name", "parameters", "largest output stride"), sizes)
    if what in ("all", "configs"):
        rows = []
        files = config_files()
        for file in reporter.track(files, len(files), "measure configs"):
            experiment = read_experiment(file).experiment
            model = build_model(experiment, dict.fromkeys(experiment.heads, COCO_CLASSES))
            data = experiment.data
            shortest = min(data.center_crop or data.size or data.short_side[-1:])
            side = -(-shortest // model.divisor) * model.divisor
            described = f"{experiment.backbone.name} + {', '.join(head.name for head in experiment.heads.values())}"
            adds = _giga(model_multiply_adds(model, experiment.image.channels, side))
            rows.append((str(file), described, _millions(parameters(model)), f"{adds} at {side} px"))
        reporter.table("configs, with 80 classes", ("config", "model", "parameters", "multiply-adds"), rows)


def _matching(pattern: str) -> list[str]:
    found = [name for name in backbones.names() if fnmatch.fnmatchcase(name, pattern)]
    if pattern.startswith("timm/"):
        found += [f"timm/{name}" for name in network_names(pattern.removeprefix("timm/"))]
    if not found:
        raise UserError(
            f"{pattern!r} matches no backbone; give all, backbones, heads, configs, or a pattern such as 'resnet*' or "
            "'timm/convnext_*'"
        )
    return found


def _show_backbones(reporter: Reporter, names: list[str]) -> None:
    if len(names) > MOST_MEASURED and names[0].startswith("timm/"):
        reporter.say(
            f"{len(names)} networks; a pattern of at most {MOST_MEASURED} shows their sizes: {', '.join(names)}"
        )
        return
    rows = []
    for name in reporter.track(names, len(names), "measure backbones"):
        try:
            size = measure_backbone(name)
        except UserError as error:
            rows.append((name, "", "", str(error)))
        except Exception as error:  # somebody else's network, which may compute with values while it is built
            rows.append((name, "", "", f"cannot be measured on shapes alone ({type(error).__name__}: {error})"))
        else:
            adds = f"{_giga(size.multiply_adds)} at {size.side} px"
            rows.append((name, _millions(size.parameters), adds, size.levels))
    reporter.table("backbones", ("name", "parameters", "multiply-adds", "levels: channels/stride"), rows)


def widest_stride(head: str) -> tuple[int, Head]:
    """The largest output stride of a resnet50 that a head takes, and the head on it."""
    for stride in (32, 16):
        with contextlib.suppress(UserError):
            features = build_backbone("resnet50", output_stride=stride).features
            return stride, heads.build(head, features, len(COCO_CLASSES))
    return 8, heads.build(head, build_backbone("resnet50", output_stride=8).features, len(COCO_CLASSES))


def config_files() -> list[Path]:
    """The shipped configs, as `tools/train.py` takes them."""
    root = Path(next(iter(configs.__path__)))
    return [file.relative_to(root.parent) for file in sorted(root.rglob("*.py")) if file.name != "__init__.py"]


def parameters(module: nn.Module) -> int:
    """Number of weights and biases, trained or not."""
    return sum(parameter.numel() for parameter in module.parameters())


def measure_backbone(name: str) -> BackboneSize:
    """The size of a backbone as it is without options; computed on shapes alone.

    Raises:
        UserError: it cannot be built, or takes no images of 224 pixels.
    """
    with torch.device("meta"):
        network = build_backbone(name).eval()
        side = 32 if list(network.features.values())[-1].stride <= 4 else 224
        images = torch.empty(1, 3, side, side)
    return BackboneSize(name, parameters(network), network_multiply_adds(network, images), side, network.features)


@torch.inference_mode()
def network_multiply_adds(network: nn.Module, images: Tensor) -> int:
    """Multiply-adds of a network in evaluation mode."""
    return multiply_adds(lambda: network(images))


@torch.inference_mode()
def model_multiply_adds(model: Model, channels: int, side: int) -> int:
    """Multiply-adds of a model predicting one square image; it has to run, since boxes decide what is computed."""
    size = torch.tensor([[side, side]])
    batch = Batch(
        torch.zeros(1, channels, side, side), ImageSizes((side, side), size, size), Targets(size[:, 0]), (0,), ("",)
    )
    return multiply_adds(lambda: model.eval().predict(batch))


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def _giga(count: int) -> str:
    return f"{count / 1e9:.2f} G"
