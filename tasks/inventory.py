"""What can be chosen: backbones, heads and configs, with their size."""

import contextlib
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import configs
from backbones import UserError, backbones, build_backbone
from heads import Head, ImageSizes, Targets, heads
from tasks.data.sample import Batch
from tasks.experiment_file import read_experiment
from tasks.label_map import LabelMap
from tasks.model import Model, build_model
from tasks.progress import Reporter

COCO_CLASSES = LabelMap(ids=tuple(range(1, 81)), names=tuple(f"class {index}" for index in range(1, 81)))


def show_inventory(what: str) -> None:
    """Print the tables of "backbones", "heads", "configs" or "all"."""
    reporter = Reporter()
    if what in ("all", "backbones"):
        rows = []
        for name in backbones.names():
            network = build_backbone(name)
            levels = ", ".join(f"{level} {spec.channels}/{spec.stride}" for level, spec in network.features.items())
            rows.append((name, _millions(parameters(network)), _giga(backbone_multiply_adds(name)), levels))
        reporter.table(
            "backbones, multiply-adds at 224 x 224",
            ("name", "parameters", "multiply-adds", "levels: channels/stride"),
            rows,
        )
    if what in ("all", "heads"):
        sizes = []
        for name in heads.names():
            stride, head = widest_stride(name)
            sizes.append((name, _millions(parameters(head)), str(stride)))
        reporter.table("heads, on resnet50 with 80 classes", ("name", "parameters", "largest output stride"), sizes)
    if what in ("all", "configs"):
        rows = []
        for file in config_files():
            experiment = read_experiment(file).experiment
            model = build_model(experiment, dict.fromkeys(experiment.heads, COCO_CLASSES))
            data = experiment.data
            shortest = min(data.center_crop or data.size or data.short_side[-1:])
            side = -(-shortest // model.divisor) * model.divisor
            described = f"{experiment.backbone.name} + {', '.join(head.name for head in experiment.heads.values())}"
            adds = _giga(model_multiply_adds(model, experiment.image.channels, side))
            rows.append((str(file), described, _millions(parameters(model)), f"{adds} at {side} px"))
        reporter.table("configs, with 80 classes", ("config", "model", "parameters", "multiply-adds"), rows)


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


def backbone_multiply_adds(name: str, side: int = 224) -> int:
    """Multiply-adds of a registered backbone for one square RGB image; computed on shapes alone."""
    with torch.device("meta"):
        network = build_backbone(name).eval()
        images = torch.empty(1, 3, side, side)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(images)
    return int(counter.get_total_flops()) // 2


def model_multiply_adds(model: Model, channels: int, side: int) -> int:
    """Multiply-adds of a model predicting one square image; it has to run, since boxes decide what is computed."""
    size = torch.tensor([[side, side]])
    batch = Batch(
        torch.zeros(1, channels, side, side), ImageSizes((side, side), size, size), Targets(size[:, 0]), (0,), ("",)
    )
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval().predict(batch)
    return int(counter.get_total_flops()) // 2


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def _giga(count: int) -> str:
    return f"{count / 1e9:.2f} G"
