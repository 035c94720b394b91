"""RetinaNets and FCOS as networks of torchvision's."""

from typing import Any

from heads.one_stage_layouts import TORCHVISION_FCOS, TORCHVISION_RETINANET, join_one_stage
from tasks.config import FCOSConfig, RetinaNetConfig
from tasks.foreign_network import Recipe, Source, Target, backbone_with_counters

# Options that torchvision's networks have one value of; of `retinanet_resnet50_fpn_v2`, two others than the first.
FIXED: dict[str, dict[str, Any]] = {
    "RetinaNet": {
        **{"fpn_channels": 256, "tower_depth": 4, "exact_anchors": False, "scales_per_octave": 3},
        **{"anchor_sizes": (32, 64, 128, 256, 512), "aspect_ratios": (0.5, 1.0, 2.0)},
    },
    "FCOS": {
        **{"fpn_channels": 256, "tower_depth": 4, "exact_points": False, "tower_norm": "gn", "extra_level": "p5"},
    },
}
SECOND_VERSION = ("gn", "c5")


def torchvision_one_stage(source: Source, head: RetinaNetConfig | FCOSConfig) -> Target:
    """Its RetinaNet, of either version, or FCOS."""
    if source.network.startswith("densenet"):
        source.refuse("torchvision", f"its detectors with FPN take ResNets, not {source.network}")
    model = "FCOS" if isinstance(head, FCOSConfig) else "RetinaNet"
    fixed = FIXED[model]
    second = model == "RetinaNet" and (head.tower_norm, head.extra_level) == SECOND_VERSION
    if model == "RetinaNet" and not second:
        fixed = {**fixed, "tower_norm": "none", "extra_level": "p5"}
    other = {option: getattr(head, option) for option, value in fixed.items() if getattr(head, option) != value}
    if other:
        told = ", ".join(f"{option} {value}" for option, value in other.items())
        source.refuse("torchvision", f"its {model} differs from this one in {told}")
    layout = TORCHVISION_FCOS if model == "FCOS" else TORCHVISION_RETINANET
    tensors = join_one_stage(backbone_with_counters(source, "torchvision"), source.head, layout)
    at_cell = len(source.head["bbox_pred.bias"]) // 4
    classes = len(source.head["cls_logits.bias"]) // at_cell + 1
    limits = f"score_thresh={head.score_threshold}, nms_thresh={head.nms_iou}, topk_candidates={head.pre_nms}"
    notes = [
        f"images: image_mean={list(source.config.image.mean)}, image_std={list(source.config.image.std)}",
        f"class 0 is background, which never scores; {limits}, detections_per_img={head.detections_per_image}",
    ]
    if source.network == "resnet50":
        name = "fcos_resnet50_fpn" if model == "FCOS" else f"retinanet_resnet50_fpn{'_v2' * second}"
        options = {"weights": None, "weights_backbone": None, "num_classes": classes}
        return Target(tensors, Recipe(f"torchvision.models.detection.{name}", options), notes)
    top = source.head["fpn.extra.weight"].shape[1]
    body = (
        f"resnet_fpn_backbone(backbone_name={source.network!r}, weights=None, returned_layers=[2, 3, 4], "
        f"extra_blocks=LastLevelP6P7({top}, 256))"
    )
    norm = f", head=RetinaNetHead(256, 9, {classes}, partial(GroupNorm, 32))" if second else ""
    built = f"built by torchvision.models.detection.{model}({body}, num_classes={classes}{norm})"
    return Target(tensors, None, [built, *notes])
