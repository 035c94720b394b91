"""Whole models of other libraries as the start of a run: what is loaded, and what they expect is told."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from backbones import UserError
from heads.detector_layouts import DETECTRON2_DETECTOR, MMDETECTION, TORCHVISION, DetectorLayout, join_detector
from heads.one_stage_layouts import TORCHVISION_FCOS, TORCHVISION_RETINANET, OneStageLayout, join_one_stage
from tasks.config import (
    BackboneConfig,
    ClassificationConfig,
    DeepLabV3Config,
    Experiment,
    FasterRCNNConfig,
    FCOSConfig,
    HeadConfig,
    MaskRCNNConfig,
    ModelConfig,
    RetinaNetConfig,
    YOLOConfig,
)
from tasks.image_spec import ImageSpec
from tasks.initial_weights import load_initial_weights
from tasks.label_map import LabelMap
from tasks.model import Model, build_model

CLASSES = LabelMap(ids=(1, 2, 5), names=("a", "b", "c"))
SMALL = {"fpn_channels": 8, "box_head_channels": 8}
UNSCALED = ImageSpec(std=(1 / 255,) * 3)
AS_THEIRS = {"roi_sampling_ratio": 0, "roi_aligned": True, "exact_anchors": True}


def experiment(head: HeadConfig, file: Path | None, image: ImageSpec | None = None, **backbone: object) -> Experiment:
    return Experiment(
        backbone=BackboneConfig(**{"name": "resnet18", **backbone}),
        heads={"out": head},
        model=ModelConfig(weights=file),
        image=image or ImageSpec(),
    )


def started(config: Experiment) -> tuple[Model, list[str]]:
    model = build_model(config, {"out": CLASSES})
    return model, load_initial_weights(model, config, {"out": CLASSES}, None)


def detector(layout: DetectorLayout, file: Path, head: HeadConfig | None = None) -> dict[str, Tensor]:
    """A random detector of ours, saved by another library's names."""
    model = build_model(experiment(head or FasterRCNNConfig(**SMALL), None), {"out": CLASSES})
    torch.save(join_detector(model.backbone.state_dict(), model.heads["out"].state_dict(), layout), file)
    return model.state_dict()


@pytest.mark.parametrize("layout", [TORCHVISION, DETECTRON2_DETECTOR, MMDETECTION], ids=lambda layout: layout.model)
def test_detectors_of_three_libraries(tmp_path: Path, layout: DetectorLayout) -> None:
    state = detector(layout, tmp_path / "x.pth")
    options = {} if layout is TORCHVISION else AS_THEIRS
    image = UNSCALED if layout is DETECTRON2_DETECTOR else None
    model, told = started(experiment(FasterRCNNConfig(**SMALL, **options), tmp_path / "x.pth", image))
    assert len(told) == 1
    assert told[0].startswith(f"weights: the whole model from {tmp_path / 'x.pth'}: loaded 130 of 130 entries of ")
    for name, tensor in model.state_dict().items():
        rows = slice(4, None) if "roi_head.bbox_pred" in name and layout.background_last else slice(None)
        assert name.endswith("num_batches_tracked") or torch.equal(tensor[rows], state[name][rows]), name


@pytest.mark.parametrize("layout", [TORCHVISION, DETECTRON2_DETECTOR, MMDETECTION], ids=lambda layout: layout.model)
def test_mask_rcnns_of_three_libraries(tmp_path: Path, layout: DetectorLayout) -> None:
    options = {} if layout is TORCHVISION else AS_THEIRS
    image = UNSCALED if layout is DETECTRON2_DETECTOR else None
    section = MaskRCNNConfig(**SMALL, **options, mask_channels=8)
    state = detector(layout, tmp_path / "x.pth", section)
    model, told = started(experiment(section, tmp_path / "x.pth", image))
    assert len(told) == 1
    assert "loaded 142 of 142 entries of " in told[0]
    for name, tensor in model.state_dict().items():
        rows = slice(4, None) if "roi_head.bbox_pred" in name and layout.background_last else slice(None)
        assert name.endswith("num_batches_tracked") or torch.equal(tensor[rows], state[name][rows]), name
    # A file with masks is no Faster R-CNN, and one without is no Mask R-CNN.
    with pytest.raises(UserError, match=r"12 unexpected .*mask_head.*expected the Faster or Mask R-CNN"):
        started(experiment(FasterRCNNConfig(**SMALL, **options), tmp_path / "x.pth", image))
    detector(layout, tmp_path / "y.pth")
    with pytest.raises(UserError, match=r"12 missing .*mask_head.*expected the Faster or Mask R-CNN"):
        started(experiment(section, tmp_path / "y.pth", image))


@pytest.mark.parametrize(
    ("head", "layout"),
    [
        (RetinaNetConfig(fpn_channels=8), TORCHVISION_RETINANET),
        (RetinaNetConfig(fpn_channels=8, tower_norm="gn", extra_level="c5"), TORCHVISION_RETINANET),
        (FCOSConfig(fpn_channels=8), TORCHVISION_FCOS),
    ],
    ids=["retinanet", "retinanet_v2", "fcos"],
)
def test_one_stage_detectors_of_torchvision(tmp_path: Path, head: HeadConfig, layout: OneStageLayout) -> None:
    state = build_model(experiment(head, None), {"out": CLASSES})
    file = tmp_path / "x.pth"
    torch.save(join_one_stage(state.backbone.state_dict(), state.heads["out"].state_dict(), layout), file)
    model, told = started(experiment(head, file))
    assert len(told) == 1
    count = sum(not name.endswith("num_batches_tracked") for name in model.state_dict())
    assert told[0].startswith(f"weights: the whole model from {file}: loaded {count} of {count} entries")
    for name, tensor in state.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(model.state_dict()[name], tensor), name
    other = head.model_copy(update={"exact_points" if isinstance(head, FCOSConfig) else "exact_anchors": True})
    _, told = started(experiment(other, file))
    assert "the weights expect --heads.out.exact_" in told[1]


def test_a_yolo_takes_no_model_of_others(tmp_path: Path) -> None:
    detector(TORCHVISION, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: a head 'yolo' fits no model of another library; use --backbone"):
        started(experiment(YOLOConfig(fpn_channels=8), tmp_path / "x.pth"))
    with pytest.raises(UserError, match=r"x\.pth: expected the whole state dict of torchvision's FCOS") as error:
        started(experiment(FCOSConfig(fpn_channels=8), tmp_path / "x.pth"))
    assert "\n" not in str(error.value)


def test_what_detectron2_expects_is_told(tmp_path: Path) -> None:
    detector(DETECTRON2_DETECTOR, tmp_path / "x.pth")
    _, told = started(experiment(FasterRCNNConfig(**SMALL, exact_anchors=True), tmp_path / "x.pth"))
    assert "of Detectron2's network, blue and red exchanged" in told[0]
    assert len(told) == 3
    assert "expect --heads.out.roi_sampling_ratio 0 --heads.out.roi_aligned True; with" in told[1]
    assert "expect images with --image.mean 0.485 0.456 0.406 --image.std 0.003922 0.003922 0.003922;" in told[2]
    assert all(line.startswith("warning: ") for line in told[1:])


def test_what_a_backbone_expects_is_told(tmp_path: Path) -> None:
    detector(DETECTRON2_DETECTOR, tmp_path / "x.pth")
    config = experiment(ClassificationConfig(), None, weights=str(tmp_path / "x.pth"))
    _, told = started(config)
    assert "backbone weights: " in told[0]
    assert "loaded 100 of 100 entries of Detectron2's network" in told[0]
    assert "--image.std 0.003922" in told[1]
    config.image = UNSCALED
    assert len(started(config)[1]) == 1


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    detector(MMDETECTION, tmp_path / "x.pth")
    head = FasterRCNNConfig(fpn_channels=16, box_head_channels=8)
    with pytest.raises(UserError) as error:
        started(experiment(head, tmp_path / "x.pth"))
    assert "loaded 109 of 130 entries of OpenMMLab's network" in str(error.value)
    assert "21 misshaped (heads.out.fpn.lateral.c2.weight" in str(error.value)
    assert "\n" not in str(error.value)
    one = tmp_path / "one.pth"
    state = torch.load(tmp_path / "x.pth")
    torch.save({name.removeprefix("roi_head."): tensor for name, tensor in state.items()}, one)
    with pytest.raises(UserError, match=r"bbox_head\.fc_cls\.weight is of MMDetection 1"):
        started(experiment(head, one))


def test_grey_images_adapt_the_first_convolution(tmp_path: Path) -> None:
    state = detector(DETECTRON2_DETECTOR, tmp_path / "x.pth")
    grey = ImageSpec(channels=1, mean=(0.5,), std=(0.25,))
    model, told = started(experiment(FasterRCNNConfig(**SMALL, **AS_THEIRS), tmp_path / "x.pth", grey))
    assert "1 reshaped (backbone.conv1.weight)" in told[0]
    assert len(told) == 1
    torch.testing.assert_close(
        model.state_dict()["backbone.conv1.weight"], state["backbone.conv1.weight"].sum(1, keepdim=True)
    )


@pytest.mark.parametrize(
    ("prefix", "layer"),
    [("", "fc"), ("", "classifier"), ("", "linear"), ("backbone.", "head.fc"), ("backbone.", "head")],
)
def test_classifiers(tmp_path: Path, prefix: str, layer: str) -> None:
    original = build_model(experiment(ClassificationConfig(), None), {"out": CLASSES})
    state = {f"{prefix}{name}": tensor for name, tensor in original.backbone.state_dict().items()}
    state |= {f"{layer}.{name}": t for name, t in original.heads["out"].linear.state_dict().items()}
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "x.pth")
    model, told = started(experiment(ClassificationConfig(), tmp_path / "x.pth"))
    assert len(told) == 1
    assert all(torch.equal(tensor, original.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_segmentation_models_of_others(tmp_path: Path) -> None:
    head = DeepLabV3Config(decoder_channels=16, atrous_rates=(2, 3, 4))
    original = build_model(experiment(head, None, output_stride=8), {"out": CLASSES})
    encoder = {f"encoder.{name}": tensor for name, tensor in original.backbone.state_dict().items()}
    torch.save(encoder | original.heads["out"].state_dict(), tmp_path / "x.pth")
    _, told = started(experiment(head, tmp_path / "x.pth", output_stride=8))
    assert len(told) == 2
    assert "segmentation-models-pytorch dilates the first block" in told[1]
    torch.save(
        {"backbone.conv1.weight": torch.ones(1), "decode_head.conv_seg.weight": torch.ones(1)}, tmp_path / "mm.pth"
    )
    with pytest.raises(UserError, match=r"a model of MMSegmentation.*--backbone\.weights"):
        started(experiment(head, tmp_path / "mm.pth", output_stride=8))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_real_classifiers_load_whole(reference_data: Path, name: str) -> None:
    classes = LabelMap(ids=tuple(range(1000)), names=tuple(map(str, range(1000))))
    file = reference_data / "weights" / f"{name}_imagenet_pq.safetensors"
    config = experiment(ClassificationConfig(), file, name=name, norm="frozen_bn")
    model = build_model(config, {"out": classes})
    (line,) = load_initial_weights(model, config, {"out": classes}, None)
    count = sum(not entry.endswith("num_batches_tracked") for entry in model.state_dict())
    assert f"loaded {count} of {count} entries" in line
    assert "missing" not in line


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_real_cifar_classifiers_load_whole(reference_data: Path, depth: int) -> None:
    classes = LabelMap(ids=tuple(range(10)), names=tuple(map(str, range(10))))
    file = reference_data / "cifar10" / f"resnet{depth}_optionA.safetensors"
    config = experiment(ClassificationConfig(), file, name=f"cifar_resnet{depth}")
    model = build_model(config, {"out": classes})
    (line,) = load_initial_weights(model, config, {"out": classes}, None)
    count = sum(not entry.endswith("num_batches_tracked") for entry in model.state_dict())
    assert f"loaded {count} of {count} entries" in line
