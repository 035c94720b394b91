"""What other libraries' networks the parts of ours are, and how those are built there."""

import re
from typing import Any

from torch import Tensor

from backbones.errors import UserError
from heads.detector_layouts import DETECTRON2_DETECTOR, MMDETECTION, TORCHVISION, join_detector
from heads.smp_layout import join_smp_model
from tasks.config import (
    ClassificationConfig,
    FasterRCNNConfig,
    FCOSConfig,
    MaskRCNNConfig,
    PSPNetConfig,
    RetinaNetConfig,
    SegmentationConfig,
    SegmentationFPNConfig,
    UNetConfig,
    UNetPlusPlusConfig,
)
from tasks.export_one_stage import torchvision_one_stage
from tasks.foreign_network import Recipe, Source, Target, backbone_with_counters
from tasks.image_spec import ImageSpec

_TORCHVISION = re.compile(
    r"resnet(18|34|50|101|152)|resnext(50_32x4d|101_32x8d|101_64x4d)|wide_resnet(50|101)_2|densenet(121|161|169|201)"
)
_SMP = re.compile(r"resnet(18|34|50|101|152)|resnext(50_32x4d|101_32x8d)")  # its DenseNets leave out the last ReLU
_OTHERS = re.compile(r"resnet(18|34|50|101|152)|resnet(50|101|152)_v1|resnext101_(32x8d|64x4d)")


def torchvision_target(source: Source) -> Target:
    """A classifier, or a detector on a ResNet."""
    if not _TORCHVISION.fullmatch(source.network):
        other = "; --layout timm may have it" if isinstance(source.section, ClassificationConfig) else ""
        source.refuse("torchvision", f"none is called {source.network}{other}")
    if source.config.image.channels != 3:
        source.refuse("torchvision", f"its networks take 3 channels, this one {source.config.image.channels}")
    if isinstance(source.section, FasterRCNNConfig | MaskRCNNConfig):
        return _torchvision_detector(source)
    if isinstance(source.section, RetinaNetConfig | FCOSConfig):
        return torchvision_one_stage(source, source.section)
    tensors, classes = _classifier(source, "torchvision")
    return Target(tensors, Recipe(f"torchvision.models.{source.network}", {"num_classes": classes}))


def timm_target(source: Source) -> Target:
    """A classifier."""
    name = re.sub(r"^(resnet\d+)_v1([cd])$", r"\1\2", source.network)
    name = re.sub(r"^resnet(\d+)_v2$", r"resnetv2_\1", name)
    import timm

    if name not in timm.list_models():
        source.refuse("timm", f"none is {source.network}")
    tensors, classes = _classifier(source, "timm")
    if name.startswith("resnetv2"):
        tensors["head.fc.weight"] = tensors.pop("fc.weight")[:, :, None, None]
        tensors["head.fc.bias"] = tensors.pop("fc.bias")
    options = {"model_name": name, "num_classes": classes, "in_chans": source.config.image.channels}
    if source.config.backbone.output_stride not in (None, 32):
        options["output_stride"] = source.config.backbone.output_stride
    return Target(tensors, Recipe("timm.create_model", options))


def _classifier(source: Source, library: str) -> tuple[dict[str, Tensor], int]:
    """The tensors of a classifier and its number of classes."""
    head = source.section
    if not isinstance(head, ClassificationConfig):
        source.refuse(library, f"a head {getattr(head, 'name', '')!r} is no classifier")
    plain = head.level is None and head.pooling == "average" and not head.hidden_channels
    if not plain or head.target in ("ordinal", "regression"):
        source.refuse(
            library,
            "its classifiers are one linear layer on averaged features; this head has another target, level or "
            "pooling, or hidden layers",
        )
    dense = source.network.startswith("densenet")
    prefix, layer = ("features.", "classifier") if dense else ("", "fc")
    tensors = {prefix + name: tensor for name, tensor in backbone_with_counters(source, library).items()}
    tensors |= {f"{layer}.{kind}": source.head[f"linear.{kind}"] for kind in ("weight", "bias")}
    return tensors, len(source.head["linear.bias"])


def smp_target(source: Source) -> Target:
    """A segmentation network."""
    head = source.section
    if not isinstance(head, SegmentationConfig):
        source.refuse("segmentation-models-pytorch", f"a head {getattr(head, 'name', '')!r} gives no masks")
    if not _SMP.fullmatch(source.network):
        source.refuse("segmentation-models-pytorch", f"none of its encoders is our {source.network}")
    if source.config.backbone.output_stride not in (None, 32):
        source.refuse(
            "segmentation-models-pytorch",
            "where its encoders trade stride for dilation, the first block of a stage is dilated as well; ours, as "
            "torchvision's, is not",
        )
    kept = {name: tensor for name, tensor in source.head.items() if name.startswith(("decoder.", "segmentation_head."))}
    options: dict[str, Any] = {
        "encoder_name": source.network,
        "encoder_weights": None,
        "in_channels": source.config.image.channels,
        "classes": len(kept["segmentation_head.0.bias"]),
    }
    name, more = _smp_decoder(head)
    backbone = backbone_with_counters(source, "segmentation-models-pytorch")
    notes = ["the auxiliary head is left out"] if len(kept) < len(source.head) else []
    if head.target == "multiclass" and head.background:
        notes.append("channel 0 is background")
    return Target(
        join_smp_model(backbone, kept), Recipe(f"segmentation_models_pytorch.{name}", {**options, **more}), notes
    )


def _smp_decoder(head: SegmentationConfig) -> tuple[str, dict[str, Any]]:
    """The class in segmentation-models-pytorch, and its options that follow from the decoder's."""
    match head:
        case UNetConfig() | UNetPlusPlusConfig():
            return ("Unet" if isinstance(head, UNetConfig) else "UnetPlusPlus"), {
                "decoder_channels": head.decoder_channels,
                "decoder_attention_type": head.attention,
                "decoder_interpolation": head.interpolation,
            }
        case SegmentationFPNConfig():
            return "FPN", {
                "decoder_pyramid_channels": head.pyramid_channels,
                "decoder_segmentation_channels": head.segmentation_channels,
                "decoder_merge_policy": head.merge,
                "decoder_dropout": head.dropout,
            }
        case PSPNetConfig():
            depth = int(head.level[1:])
            return "PSPNet", {
                "encoder_depth": depth,
                "psp_out_channels": head.decoder_channels,
                "psp_dropout": head.dropout,
                "upsampling": 2**depth,
            }
    raise UserError(f"segmentation-models-pytorch has no network like the head {head!r}")


def _detector(source: Source, library: str) -> FasterRCNNConfig | MaskRCNNConfig:
    head = source.section
    if not isinstance(head, FasterRCNNConfig | MaskRCNNConfig):
        source.refuse(library, f"a head {getattr(head, 'name', '')!r} is no Faster R-CNN or Mask R-CNN")
    if isinstance(head, MaskRCNNConfig) and head.mask_convs != 4:
        source.refuse(library, f"the mask branch of its Mask R-CNN has 4 convolutions; mask_convs is {head.mask_convs}")
    if head.extra_level != "pool":
        source.refuse(library, f"in its Faster R-CNN P6 is P5 with cells left out; extra_level is {head.extra_level}")
    return head


def _torchvision_detector(source: Source) -> Target:
    head = _detector(source, "torchvision")
    if source.network.startswith("densenet"):
        source.refuse("torchvision", f"its Faster R-CNN with FPN takes ResNets, not {source.network}")
    fixed: dict[str, Any] = {**TORCHVISION.options, "fpn_channels": 256, "roi_size": 7, "box_head_channels": 1024}
    fixed |= {"class_agnostic": False, "anchor_sizes": (32, 64, 128, 256, 512), "aspect_ratios": (0.5, 1.0, 2.0)}
    if isinstance(head, MaskRCNNConfig):
        fixed |= {"mask_roi_size": 14, "mask_channels": 256, "mask_class_agnostic": False}
    other = {option: getattr(head, option) for option, value in fixed.items() if getattr(head, option) != value}
    if other:
        told = ", ".join(f"{option} {value}" for option, value in other.items())
        kind = "Mask" if isinstance(head, MaskRCNNConfig) else "Faster"
        source.refuse("torchvision", f"its {kind} R-CNN differs from this one in {told}")
    tensors = join_detector(backbone_with_counters(source, "torchvision"), source.head, TORCHVISION)
    classes = len(source.head["roi_head.cls_score.bias"])
    options = {"weights": None, "weights_backbone": None, "num_classes": classes}
    note = [
        f"images: image_mean={list(source.config.image.mean)}, image_std={list(source.config.image.std)}",
        "class 0 is background",
    ]
    if source.network == "resnet50":
        function = "maskrcnn_resnet50_fpn" if isinstance(head, MaskRCNNConfig) else "fasterrcnn_resnet50_fpn"
        return Target(tensors, Recipe(f"torchvision.models.detection.{function}", options), note)
    body = f"resnet_fpn_backbone(backbone_name={source.network!r}, weights=None)"
    kind = "MaskRCNN" if isinstance(head, MaskRCNNConfig) else "FasterRCNN"
    built = f"built by torchvision.models.detection.{kind}({body}, num_classes={classes})"
    return Target(tensors, None, [built, *note])


def detectron2_target(source: Source) -> Target:
    """Its Faster or Mask R-CNN with FPN."""
    head = _detector(source, "Detectron2")
    if not _OTHERS.fullmatch(source.network):
        source.refuse("Detectron2", f"its ResNets are 18 to 152 and ResNeXts, not {source.network}")
    tensors = join_detector(backbone_with_counters(source, "Detectron2"), source.head, DETECTRON2_DETECTOR)
    mean, std = _pixels(source, "Detectron2")
    in_1x1 = source.network.endswith("_v1")
    notes = [
        f"MODEL.RESNETS.STRIDE_IN_1X1 {in_1x1}, INPUT.FORMAT BGR, MODEL.PIXEL_MEAN {mean[::-1]}, "
        f"MODEL.PIXEL_STD {std[::-1]}, MODEL.ROI_HEADS.NUM_CLASSES {len(source.head['roi_head.cls_score.bias']) - 1}",
        f"MODEL.ROI_BOX_HEAD.POOLER_TYPE {'ROIAlignV2' if head.roi_aligned else 'ROIAlign'}, "
        f"MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO {head.roi_sampling_ratio}, "
        f"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG {head.class_agnostic}",
    ]
    if isinstance(head, MaskRCNNConfig):
        notes.append(
            "MODEL.MASK_ON True, MODEL.ROI_MASK_HEAD.POOLER_TYPE and POOLER_SAMPLING_RATIO as of the box head, "
            f"POOLER_RESOLUTION {head.mask_roi_size}, CONV_DIM {head.mask_channels}, "
            f"CLS_AGNOSTIC_MASK {head.mask_class_agnostic}"
        )
    return Target(tensors, None, notes + _inexact_anchors(head))


def mmdetection_target(source: Source) -> Target:
    """Its Faster or Mask R-CNN with FPN."""
    head = _detector(source, "MMDetection")
    if not _OTHERS.fullmatch(source.network):
        source.refuse("MMDetection", f"its ResNets are 18 to 152 and ResNeXts, not {source.network}")
    tensors = join_detector(backbone_with_counters(source, "MMDetection"), source.head, MMDETECTION)
    mean, std = _pixels(source, "MMDetection")
    style = "caffe" if source.network.endswith("_v1") else "pytorch"
    notes = [
        f"backbone style={style!r}, data_preprocessor mean={mean}, std={std}, bgr_to_rgb=True, "
        f"num_classes={len(source.head['roi_head.cls_score.bias']) - 1}",
        f"bbox_roi_extractor roi_layer sampling_ratio={head.roi_sampling_ratio}, aligned={head.roi_aligned}, "
        f"bbox_head reg_class_agnostic={head.class_agnostic}",
    ]
    if isinstance(head, MaskRCNNConfig):
        notes.append(
            f"mask_roi_extractor roi_layer as of the boxes, output_size={head.mask_roi_size}, mask_head "
            f"in_channels={head.fpn_channels}, conv_out_channels={head.mask_channels}, "
            f"class_agnostic={head.mask_class_agnostic}"
        )
    return Target(tensors, None, notes + _inexact_anchors(head))


def _inexact_anchors(head: FasterRCNNConfig | MaskRCNNConfig) -> list[str]:
    if head.exact_anchors:
        return []
    return [
        "its anchors are not rounded, those of this run were (exact_anchors False): boxes come out a little displaced"
    ]


def _pixels(source: Source, library: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of pixels as they are stored: what these libraries subtract and divide by."""
    image: ImageSpec = source.config.image
    if image.channels != 3 or image.windows or image.percentiles:
        source.refuse(library, "it subtracts a mean from 3 channels and divides; image has windows or other channels")
    scale = image.white - image.black
    return [round(m * scale + image.black, 4) for m in image.mean], [round(s * scale, 4) for s in image.std]
