"""Exported weights load strictly into the networks of other libraries, and those compute what ours does."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from backbones.weights_file import WeightsFile
from heads import ImageSizes
from heads.detector_layouts import split_detector
from tasks.checkpoint import save_checkpoint
from tasks.config import (
    BackboneConfig,
    CascadeRCNNConfig,
    ClassificationConfig,
    DeepLabV3Config,
    DeepLabV3PlusConfig,
    Experiment,
    FasterRCNNConfig,
    FCOSConfig,
    HeadConfig,
    MaskRCNNConfig,
    PSPNetConfig,
    RetinaNetConfig,
    SegmentationFPNConfig,
    UNetConfig,
    UNetPlusPlusConfig,
    YOLOConfig,
)
from tasks.image_spec import ImageSpec
from tasks.label_map import LabelMap
from tasks.model import Model, build_model
from tasks.prediction.from_torch import boxes_in

CLASSES = LabelMap(ids=(1, 2, 5), names=("a", "b", "c"))
GREY = ImageSpec(channels=1, mean=(0.5,), std=(0.25,))
Run = Callable[..., tuple[Model, Path]]


@pytest.fixture
def saved(tmp_path: Path) -> Run:
    """`saved(backbone, head, ...)`: a model with random weights and statistics, and the checkpoint of it."""

    def save(backbone: str, head: HeadConfig, image: ImageSpec | None = None, **options: object) -> tuple[Model, Path]:
        config = Experiment(
            backbone=BackboneConfig(name=backbone, **options), heads={"out": head}, image=image or ImageSpec()
        )
        torch.manual_seed(0)
        model = build_model(config, {"out": CLASSES}).eval()
        for module in model.modules():  # else every variance is 1 and every mean 0
            if hasattr(module, "running_var") and module.running_var is not None:
                nn.init.uniform_(module.running_mean, -0.1, 0.1)
                nn.init.uniform_(module.running_var, 0.8, 1.2)
        if isinstance(head, RetinaNetConfig | FCOSConfig):  # else all scores are nearly the same, and boxes empty
            nn.init.normal_(model.heads["out"].cls_logits.weight, std=0.02 if head.tower_norm == "gn" else 0.5)
            nn.init.constant_(model.heads["out"].bbox_pred.bias, 0.5)
        if isinstance(head, ClassificationConfig):  # else probabilities are 0 or 1
            with torch.no_grad():
                level = list(model.backbone(images(model)).values())[-1]
                model.heads["out"].linear.weight /= level.mean(dim=(2, 3)).norm(dim=1).mean()
        folder = save_checkpoint(tmp_path / "run", 1, {"model": model.state_dict()}, {"out": CLASSES}, config, {}, 1)
        return model, folder

    return save


def exported(command, run: Path, layout: str, suffix: str = ".safetensors") -> tuple[dict[str, Tensor], str]:
    """The written tensors and what was said."""
    out = run.parent.parent / f"out{suffix}"
    said = command("export_weights", run, "--layout", layout, "--out", out)
    assert said.code == 0, said.error
    tensors = load_file(out) if suffix == ".safetensors" else torch.load(out, weights_only=True)
    return tensors, said.out


def images(model: Model) -> Tensor:
    return torch.rand(2, model.backbone.in_channels, 64, 96, generator=torch.Generator().manual_seed(1))


SIZES = ImageSizes((64, 96), torch.tensor([[64, 96]] * 2), torch.tensor([[64, 96]] * 2))


@torch.no_grad()
def probabilities(model: Model) -> Tensor:
    found: Tensor = model.heads["out"].scores(model.backbone(images(model)), SIZES)
    assert found.std() > 1e-3
    return found


@pytest.mark.parametrize(
    ("backbone", "norm"),
    [
        ("resnet18", "frozen_bn"),
        ("densenet121", "bn"),
        pytest.param("resnext50_32x4d", "bn", marks=pytest.mark.slow),
        pytest.param("wide_resnet50_2", "bn", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_torchvision_classifiers(command, saved: Run, backbone: str, norm: str) -> None:
    model, run = saved(backbone, ClassificationConfig(), norm=norm)
    reference = torchvision.models.get_model(backbone, weights=None, num_classes=3).eval()
    tensors, said = exported(command, run, "torchvision", ".pth")
    assert f"built by torchvision.models.{backbone}(num_classes=3)" in said
    reference.load_state_dict(tensors, strict=True)
    torch.testing.assert_close(probabilities(model), reference(images(model)).softmax(1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "theirs"),
    [
        ("resnet18", "resnet18"),
        ("resnet18_v1d", "resnet18d"),
        pytest.param("resnet50_v1c", "resnet50c", marks=pytest.mark.slow),
        pytest.param("resnet50_v2", "resnetv2_50", marks=pytest.mark.slow),
        pytest.param("seresnet50", "seresnet50", marks=pytest.mark.slow),
        ("seresnet18", "seresnet18"),
        ("resnet18_v2", "resnetv2_18"),
        pytest.param("densenet121", "densenet121", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_timm_classifiers_of_grey_images(command, saved: Run, backbone: str, theirs: str) -> None:
    model, run = saved(backbone, ClassificationConfig(target="multi"), GREY)
    reference = timm.create_model(theirs, num_classes=3, in_chans=1).eval()
    tensors, said = exported(command, run, "timm")
    assert f"timm.create_model(model_name='{theirs}', num_classes=3, in_chans=1)" in said
    assert "channels 1" in said
    reference.load_state_dict(tensors, strict=True)
    torch.testing.assert_close(probabilities(model), reference(images(model)).sigmoid(), rtol=0, atol=1e-5)


def test_a_dilated_classifier_is_timms(command, saved: Run) -> None:
    _, run = saved("resnet18", ClassificationConfig(), output_stride=8)
    _, said = exported(command, run, "timm")  # writes only what has computed the same
    assert "in_chans=3, output_stride=8)" in said


@pytest.mark.parametrize(
    ("head", "reference"),
    [
        (UNetConfig(decoder_channels=(32, 24, 16, 16, 8), auxiliary_weight=0.4), smp.Unet),
        (UNetPlusPlusConfig(decoder_channels=(32, 24, 16, 16, 16), attention="scse"), smp.UnetPlusPlus),
        (SegmentationFPNConfig(pyramid_channels=32, segmentation_channels=64, merge="cat"), smp.FPN),
        (PSPNetConfig(decoder_channels=16, level="c4"), smp.PSPNet),
    ],
    ids=["unet", "unetplusplus", "fpn", "pspnet"],
)
@torch.no_grad()
def test_segmentation_models(command, saved: Run, head: HeadConfig, reference: type[nn.Module]) -> None:
    model, run = saved("resnet18", head)
    tensors, said = exported(command, run, "smp")
    (call,) = re.findall(r"built by segmentation_models_pytorch\.(.*)", said)
    network = eval(f"smp.{call}").eval()  # as a person would type it
    assert type(network) is reference
    assert "channel 0 is background" in said
    network.load_state_dict(tensors, strict=True)
    # In single precision processors differ by about as much as the tolerance, on logits of size 1.
    found = model.double().heads["out"].logits(model.backbone(images(model).double()), SIZES)
    expected = network.double()(images(model).double()).float()  # ours are handed on in single precision
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["FasterRCNN", "MaskRCNN"])
@torch.no_grad()
def test_torchvision_detector(command, saved: Run, kind: str) -> None:
    section = {"FasterRCNN": FasterRCNNConfig, "MaskRCNN": MaskRCNNConfig}[kind]
    options = {"score_threshold": 0.2, "rpn_post_nms_test": 50, "detections_per_image": 20}
    model, run = saved("resnet18", section.model_validate(options), norm="frozen_bn")
    tensors, said = exported(command, run, "torchvision", ".pth")
    assert f"{kind}(resnet_fpn_backbone(backbone_name='resnet18', weights=None), num_classes=4)" in said
    body = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d)
    build = {"FasterRCNN": FasterRCNN, "MaskRCNN": MaskRCNN}[kind]
    theirs_options = {"box_score_thresh": 0.2, "rpn_post_nms_top_n_test": 50, "box_detections_per_img": 20}
    reference = build(body, 4, **theirs_options, min_size=64, max_size=96).eval()
    reference.load_state_dict(tensors, strict=True)
    batch, _ = reference.transform(list(images(model)))
    found = model.heads["out"].predict(model.backbone(batch.tensors), SIZES)
    for ours, theirs in zip(found, reference(list(images(model))), strict=True):
        assert len(ours.boxes) > 5
        assert torch.equal(ours.labels, theirs["labels"] - 1)
        torch.testing.assert_close(ours.boxes, theirs["boxes"], rtol=0, atol=1e-3)
        torch.testing.assert_close(ours.scores, theirs["scores"], rtol=0, atol=1e-5)
        if kind == "MaskRCNN":
            pasted = torch.from_numpy(np.stack(list(boxes_in(ours).masks()))) > 0
            # Where a probability is a half, rounding decides.
            assert ((theirs["masks"][:, 0] > 0.5) != pasted).float().mean() < 1e-3
            assert 0.1 < pasted.float().mean() < 0.9


@pytest.mark.parametrize(
    ("head", "network"),
    [
        pytest.param(RetinaNetConfig(score_threshold=0.001), RetinaNet, marks=pytest.mark.slow),
        (RetinaNetConfig(score_threshold=0.001, extra_level="c5", tower_norm="gn"), RetinaNet),
        (FCOSConfig(score_threshold=0.001), FCOS),
    ],
    ids=["retinanet", "retinanet_v2", "fcos"],
)
@torch.no_grad()
def test_torchvision_one_stage_detectors(command, saved: Run, head: HeadConfig, network: type[nn.Module]) -> None:
    model, run = saved("resnet18", head, norm="frozen_bn")
    tensors, said = exported(command, run, "torchvision", ".pth")
    (call,) = re.findall(r"built by torchvision\.models\.detection\.(.*)", said)
    assert "class 0 is background, which never scores; score_thresh=0.001, nms_thresh=0." in said
    names = {"RetinaNet": RetinaNet, "FCOS": FCOS, "RetinaNetHead": RetinaNetHead, "partial": partial}
    names |= {"resnet_fpn_backbone": resnet_fpn_backbone, "LastLevelP6P7": LastLevelP6P7, "GroupNorm": nn.GroupNorm}
    more = f", score_thresh=0.001, nms_thresh={head.nms_iou}, detections_per_img=100, min_size=64, max_size=96)"
    reference = eval(call.removesuffix(")") + more, names).eval()  # as a person would type it
    assert type(reference) is network
    reference.load_state_dict(tensors, strict=True)
    batch, _ = reference.transform(list(images(model)))
    found = model.heads["out"].predict(model.backbone(batch.tensors), SIZES)
    for ours, theirs in zip(found, reference(list(images(model))), strict=True):
        assert len(ours.boxes) > 5
        kept = torch.where((theirs["boxes"][:, 2:] - theirs["boxes"][:, :2]).amin(dim=1) > 1e-2)[0][:5]
        torch.testing.assert_close(ours.boxes[:5], theirs["boxes"][kept], rtol=0, atol=1e-3)
        torch.testing.assert_close(ours.scores[:5], theirs["scores"][kept], rtol=0, atol=1e-5)
        assert torch.equal(ours.labels[:5], theirs["labels"][kept] - 1)


@pytest.mark.parametrize(
    "head",
    [
        FasterRCNNConfig(),
        MaskRCNNConfig(),
        RetinaNetConfig(),
        RetinaNetConfig(extra_level="c5", tower_norm="gn"),
        FCOSConfig(),
    ],
    ids=["faster", "mask", "retinanet", "retinanet_v2", "fcos"],
)
def test_torchvisions_resnet50_detector_loads_strictly(head: HeadConfig) -> None:
    with torch.device("meta"):
        config = Experiment(backbone=BackboneConfig(name="resnet50"), heads={"out": head})
        names = build_model(config, {"out": CLASSES}).state_dict()
    from tasks.export_targets import torchvision_target
    from tasks.foreign_network import Source

    parts = (
        {key.removeprefix(prefix): tensor for key, tensor in names.items() if key.startswith(prefix)}
        for prefix in ("backbone.", "heads.out.")
    )
    target = torchvision_target(Source(config, head, *parts, "run"))
    assert target.recipe is not None
    with torch.device("meta"):
        target.recipe.build().load_state_dict(target.tensors, strict=True)


@pytest.mark.parametrize("layout", ["detectron2", "mmdetection"])
@pytest.mark.parametrize("agnostic", [False, True])
def test_what_other_detectors_get_is_read_back(command, saved: Run, layout: str, agnostic: bool) -> None:
    head = FasterRCNNConfig(fpn_channels=8, box_head_channels=8, class_agnostic=agnostic, exact_anchors=not agnostic)
    model, run = saved("resnet18", head)
    tensors, said = exported(command, run, layout, ".pth")
    assert ("boxes come out a little displaced" in said) == agnostic
    assert ("PIXEL_MEAN [103.53, 116.28, 123.675]" in said) == (layout == "detectron2")
    own = model.backbone.state_dict()
    parts = split_detector(WeightsFile(tensors), own, CLASSES.ids, agnostic)
    heads = model.heads["out"].state_dict()
    assert parts.head.keys() == heads.keys()
    for name, tensor in heads.items():
        # What nobody reads is not kept: the box of background.
        rows = slice(4, None) if "bbox_pred" in name and "roi" in name and not agnostic else slice(None)
        assert torch.equal(parts.head[name][rows], tensor[rows]), name
    for name, tensor in own.items():
        assert name.endswith("num_batches_tracked") or torch.equal(parts.backbone[name], tensor), name


@pytest.mark.parametrize(
    ("backbone", "head", "options", "layout", "says"),
    [
        ("resnet50_v1", ClassificationConfig(), {}, "torchvision", "none is called resnet50_v1; --layout timm may"),
        ("plain18", ClassificationConfig(), {}, "timm", "none is plain18"),
        ("resnet18", ClassificationConfig(), {"norm": "gn"}, "torchvision", "its norms are batch norms"),
        ("resnet18", ClassificationConfig(pooling="max"), {}, "timm", "one linear layer on averaged features"),
        ("resnet18", ClassificationConfig(target="ordinal"), {}, "timm", "one linear layer on averaged features"),
        ("resnet18", ClassificationConfig(), {}, "smp", "a head 'classification' gives no masks"),
        ("resnet18", ClassificationConfig(), {}, "detectron2", "a head 'classification' is no Faster R-CNN"),
        ("resnet18", ClassificationConfig(), {"output_stride": 8}, "torchvision", "computes something else"),
        ("resnet18", UNetConfig(), {}, "timm", "a head 'unet' is no classifier"),
        ("seresnet18", UNetConfig(), {}, "smp", "none of its encoders is our seresnet18"),
        ("densenet121", UNetConfig(), {}, "smp", "none of its encoders is our densenet121"),
        ("resnet18", UNetConfig(), {"output_stride": 16}, "smp", "the first block of a stage is dilated"),
        (
            "resnet18",
            DeepLabV3Config(atrous_rates=(2, 3, 4)),
            {"output_stride": 8},
            "smp",
            "the first block of a stage is dilated",
        ),
        ("resnet18", DeepLabV3PlusConfig(), {"output_stride": 16}, "smp", "the first block of a stage is dilated"),
        (
            "resnet18",
            FasterRCNNConfig(roi_aligned=True),
            {},
            "torchvision",
            "differs from this one in roi_aligned True",
        ),
        ("resnet18", FasterRCNNConfig(extra_level="p5"), {}, "mmdetection", "extra_level is p5"),
        ("resnet18", MaskRCNNConfig(mask_convs=2), {}, "detectron2", "has 4 convolutions; mask_convs is 2"),
        ("resnet18", MaskRCNNConfig(mask_channels=8), {}, "torchvision", "Mask R-CNN differs from this one in "),
        ("resnet18", CascadeRCNNConfig(), {}, "detectron2", "a head 'cascade_rcnn' is no Faster R-CNN or Mask R-CNN"),
        ("resnet18", CascadeRCNNConfig(), {}, "torchvision", "a head 'cascade_rcnn' is no classifier"),
        ("densenet121", FasterRCNNConfig(), {}, "detectron2", "not densenet121"),
        ("densenet121", RetinaNetConfig(), {}, "torchvision", "with FPN take ResNets, not densenet121"),
        ("resnet18", RetinaNetConfig(), {}, "mmdetection", "a head 'retinanet' is no Faster R-CNN"),
        ("resnet18", RetinaNetConfig(exact_anchors=True), {}, "torchvision", "this one in fpn_channels 8, exact_anch"),
        (
            "resnet18",
            FCOSConfig(tower_norm="none"),
            {},
            "torchvision",
            "its FCOS differs from this one in fpn",
        ),
        ("resnet18", YOLOConfig(), {}, "torchvision", "a head 'yolo' is no classifier"),
        ("densenet121", FasterRCNNConfig(), {}, "torchvision", "takes ResNets, not densenet121"),
    ],
)
def test_what_another_library_lacks_is_refused(
    command, saved: Run, tmp_path: Path, backbone: str, head: HeadConfig, options: dict, layout: str, says: str
) -> None:
    small = {"fpn_channels": 8, "box_head_channels": 8, "decoder_channels": (16, 16, 8, 8, 8)}
    for name, value in small.items():
        if name in type(head).model_fields:
            setattr(head, name, value if isinstance(getattr(head, name), type(value)) else 16)
    _, run = saved(backbone, head, **options)
    said = command("export_weights", run, "--layout", layout, "--out", tmp_path / "out.pth")
    assert says in said.complaint
    assert not (tmp_path / "out.pth").exists()


def test_bad_arguments(command, saved: Run, tmp_path: Path) -> None:
    _, run = saved("resnet18", ClassificationConfig())
    said = command("export_weights", run, "--layout", "timm", "--out", tmp_path / "out.onnx")
    assert "this is '.onnx'" in said.complaint
    said = command("export_weights", run, "--layout", "mmdetection", "--out", tmp_path / "out.safetensors")
    assert "ends in .pth" in said.complaint
    said = command("export_weights", run, "--layout", "timm", "--out", tmp_path / "out.pth", "--head", "boxes")
    assert "no head 'boxes'; its heads are out" in said.complaint


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_that_cannot_be_written_leaves_the_old_one(
    command, saved: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    _, run = saved("resnet18", ClassificationConfig())
    out = tmp_path / f"out{ending}"
    out.mkdir()
    arguments = ("export_weights", run, "--layout", "timm", "--out", out)
    assert f"{out}: cannot be written (is a folder)" in command(*arguments).complaint
    out.rmdir()
    out.write_text("before")

    def full(_: object, file: Path) -> None:
        file.write_text("half")
        raise RuntimeError("writer failed\nwriting file data") if ending == ".pth" else SafetensorError("No space")

    monkeypatch.setattr("tasks.exporting.torch.save" if ending == ".pth" else "tasks.exporting.save_file", full)
    assert "cannot be written (" in command(*arguments).complaint
    assert out.read_text() == "before"
    assert list(tmp_path.glob("*out*")) == [out]
    monkeypatch.undo()
    assert "classes, in order: " in command(*arguments).out
    assert out.stat().st_size > 10**6
