"""Every registered head on ResNet-18 and ResNet-50, as ONNX, on 50 photographs of blood cells.

The table in docs/export.md is what this prints:

    POLYHEAD_DATA=... python -m pytest -n 0 -m "slow or measurement" -s tests/tasks/export/test_every_head.py
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones import load_weights
from heads import heads
from tasks.checkpoint import save_checkpoint
from tasks.config import BackboneConfig, DataConfig, Experiment
from tasks.data.files.image_file import read_image
from tasks.export.graph import ExportGraph, SizeNeeded, export_program
from tasks.export.onnx_file import write_onnx
from tasks.export.parity import compare, require_parity, summary
from tasks.head_config import HEAD_SECTIONS
from tasks.label_map import LabelMap
from tasks.model import Model, build_model
from tasks.predicting import batch_of
from tasks.prediction.description import ModelDescription, preparing_options
from tasks.prediction.onnx_engine import OnnxEngine
from tasks.prediction.run_engine import RunEngine, describe_head

IMAGES = 50
CLASSES = LabelMap(ids=(1, 2, 3), names=("red", "white", "platelet"))
# So that 50 images take seconds; everything else is as in the head's defaults.
TWO_STAGES = {"rpn_pre_nms_test": 200, "rpn_post_nms_test": 50, "detections_per_image": 10}
ONE_STAGE = {"pre_nms": 200, "detections_per_image": 50}
OPTIONS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn"), TWO_STAGES),
    **dict.fromkeys(("retinanet", "fcos", "yolo"), ONE_STAGE),
}
# Mean and deviation of what the last layers give: as untrained ones they say nearly the same everywhere, and all order
# would be rounding.
SPREAD = {
    "rpn.cls_logits": (0.0, 3.0),
    "rpn.bbox_pred": (0.0, 0.3),
    "cls_score": (0.0, 2.0),
    "cls_logits": (-3.0, 2.0),
    "roi_head.bbox_pred": (0.0, 1.0),
    "bbox_pred": (0.5, 0.5),
    "centerness": (0.0, 1.0),
    "mask_head.logits": (0.0, 2.0),
    "segmentation_head.0": (0.0, 2.0),
    "linear": (0.0, 2.0),
}


def spread(model: Model, images: list[Any], config: Experiment) -> None:
    """Give the last layers of heads outputs of the mean and deviation above, on some images."""
    chosen: dict[nn.Module, tuple[float, float]] = {}
    for name, module in model.heads.named_modules():
        ending = next((end for end in SPREAD if name.endswith(end)), None)
        if ending is not None and isinstance(module, nn.Conv2d | nn.Linear):
            chosen[module] = SPREAD[ending]
    assert chosen
    batch = batch_of(images, config.data, model.divisor)
    for _ in range(3):  # what later layers see depends on earlier ones
        seen: dict[nn.Module, list[Tensor]] = {layer: [] for layer in chosen}

        def listen(layer: nn.Module, _: object, output: Tensor, seen: dict[nn.Module, list[Tensor]] = seen) -> None:
            seen[layer].append(output.movedim(1, -1).flatten(0, -2))

        hooks = [layer.register_forward_hook(listen) for layer in chosen]
        with torch.no_grad():
            model.predict(batch)
            for layer, (mean, deviation) in chosen.items():
                assert isinstance(layer, nn.Conv2d | nn.Linear)
                assert layer.bias is not None
                outputs = torch.cat(seen[layer])
                scale = deviation / outputs.std(dim=0).clamp(min=1e-12)
                layer.weight *= scale.view(-1, *[1] * (layer.weight.dim() - 1))
                layer.bias.copy_((layer.bias - outputs.mean(dim=0)) * scale + mean)
        for hook in hooks:
            hook.remove()


def test_all_heads_are_here() -> None:
    assert set(heads.names()) == HEAD_SECTIONS.keys() - {"plugin"}


# One of each kind with every run of the tests; each takes the better part of a minute.
KINDS = ("cascade_mask_rcnn", "yolo", "unet", "classification")
PAIRS = [
    pytest.param(
        name,
        backbone,
        marks=pytest.mark.slow if backbone == "resnet18" and name in KINDS else pytest.mark.measurement,
    )
    for name in sorted(HEAD_SECTIONS.keys() - {"plugin"})
    for backbone in ("resnet18", "resnet50")
]


@pytest.mark.parametrize(("name", "backbone"), PAIRS)
def test_onnx_gives_what_pytorch_gives(name: str, backbone: str, reference_data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Experiment(
        name=name,
        backbone=BackboneConfig(name=backbone, output_stride=16 if name.startswith("deeplab") else None),
        heads={"x": HEAD_SECTIONS[name].model_validate({"name": name, **OPTIONS.get(name, {})})},
        data=DataConfig(short_side=(96,), long_side=128),
    )
    labels = {"x": CLASSES}
    model = build_model(config, labels).eval()
    load_weights(model.backbone, str(reference_data / "weights" / f"{backbone}_imagenet_pq.safetensors"))
    files = sorted((reference_data / "bccd" / "JPEGImages").glob("*.jpg"))[:IMAGES]
    assert len(files) == IMAGES
    images = [(file.name, read_image(file, config.image)) for file in files]
    spread(model, [image for _, image in images[:4]], config)
    run = tmp_path / "run"
    save_checkpoint(run / "checkpoints", 1, {"model": model.state_dict()}, labels, config, {}, 1)
    description = ModelDescription(
        name=name,
        heads={"x": describe_head(config.heads["x"], CLASSES)},
        image=config.image,
        data=preparing_options(config.data),
        divisor=model.divisor,
    )
    graph = ExportGraph(model)
    try:
        program = export_program(graph, description, torch.uint8)
    except SizeNeeded:
        description.fixed_size = (96, 128)
        program = export_program(graph, description, torch.uint8)
    write_onnx(program, description, tmp_path / "x.onnx")
    engine = OnnxEngine(tmp_path / "x.onnx", "cpu")
    differences = compare(RunEngine(run, "cpu", precision="fp32", padded=description.fixed_size), engine, images)
    worst = {one.output.removeprefix("x/"): one.value for one in summary(differences)}
    cells = [f"{worst[key]:.1e}" if key in worst else "" for key in ("boxes", "scores", "cells", "pixels")]
    missing = f"{worst['missing']:.0f}" if "missing" in worst else ""
    size = "any" if description.fixed_size is None else "fixed"
    print("\n" + "| " + " | ".join([f"`{name}`", backbone, size, *cells, missing]) + " |")
    if "boxes" in worst:
        found = [engine.predict([image])[0]["x"] for _, image in images[:3]]
        assert all(len(one.rows(CLASSES)) > 5 for one in found)
    require_parity(differences, name)
