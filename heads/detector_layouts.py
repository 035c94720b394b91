"""How torchvision, Detectron2 and MMDetection name and arrange the tensors of a Faster or Mask R-CNN with FPN.

docs/weights.md tells what each library does differently.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from backbones.errors import UserError
from backbones.layouts import (
    DETECTRON2,
    LAYOUTS,
    OPENMMLAB,
    TORCHVISION_DETECTOR,
    BackboneLayout,
    translate,
    turned_round,
)
from backbones.weights_file import WeightsFile
from heads.model_layouts import ModelParts, some

KINDS = ("weight", "bias")
SCORES, OFFSETS, MASKS = "roi_head.cls_score", "roi_head.bbox_pred", "mask_head.logits"
# COCO's 80 categories have ids up to 90; Detectron2 and MMDetection number them in order.
COCO_IDS = [raw for raw in range(1, 91) if raw not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


@dataclass(frozen=True, slots=True)
class DetectorLayout:
    """One library's Faster or Mask R-CNN with FPN.

    Attributes:
        model: names it in messages.
        layers: our layers of the head, and their name in the library.
        masks: those that `MaskRCNN` has beside them.
        backbone: how the library names the backbone's parameters.
        background_last: of the classes, background has the last row of logits, and neither offsets nor masks; else the
            first row of all three, of which we keep no mask.
        options: of `FasterRCNN`, those that the library's differs in or may.
        current: brings names of older versions up to date.
        unused: names that hold no weights.
    """

    model: str
    layers: Mapping[str, str]
    masks: Mapping[str, str]
    backbone: BackboneLayout
    background_last: bool
    options: Mapping[str, bool | int]
    current: Callable[[str], str] = str
    unused: str = r".*num_batches_tracked"


def _layers(lateral: str, output: str, first_level: int, others: Sequence[str]) -> dict[str, str]:
    """The layers of the pyramid, numbered from `first_level` on, then the others in order."""
    pyramid: dict[str, str] = {}
    for number, level in enumerate("2345", first_level):
        pyramid |= {f"fpn.lateral.c{level}": lateral.format(number), f"fpn.output.p{level}": output.format(number)}
    ours = ("rpn.conv", "rpn.cls_logits", "rpn.bbox_pred", "roi_head.fc6", "roi_head.fc7", SCORES, OFFSETS)
    return {**pyramid, **dict(zip(ours, others, strict=True))}


def _mask_layers(convolution: str, first: int, others: Sequence[str]) -> dict[str, str]:
    """The four convolutions, numbered from `first` on, then the others in order."""
    convolutions = {f"mask_head.convs.{number}": convolution.format(first + number) for number in range(4)}
    return {**convolutions, **dict(zip(("mask_head.deconv", MASKS), others, strict=True))}


def _current_torchvision(name: str) -> str:
    """torchvision wraps each convolution in a block since 0.14; its published files are older and do not."""
    found = re.fullmatch(r"roi_heads\.mask_head\.mask_fcn(\d)\.(\w+)", name)
    if found:
        return f"roi_heads.mask_head.{int(found[1]) - 1}.0.{found[2]}"
    name = re.sub(r"^(backbone\.fpn\.\w+_blocks\.\d)\.(\w+)$", r"\1.0.\2", name)
    return re.sub(r"^rpn\.head\.conv\.(\w+)$", r"rpn.head.conv.0.0.\1", name)


TORCHVISION = DetectorLayout(
    "a torchvision Faster or Mask R-CNN with FPN",
    _layers(
        "backbone.fpn.inner_blocks.{}.0",
        "backbone.fpn.layer_blocks.{}.0",
        0,
        (
            *("rpn.head.conv.0.0", "rpn.head.cls_logits", "rpn.head.bbox_pred"),
            *("roi_heads.box_head.fc6", "roi_heads.box_head.fc7"),
            *("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"),
        ),
    ),
    _mask_layers(
        "roi_heads.mask_head.{}.0",
        0,
        ("roi_heads.mask_predictor.conv5_mask", "roi_heads.mask_predictor.mask_fcn_logits"),
    ),
    TORCHVISION_DETECTOR,
    background_last=False,
    options={"roi_sampling_ratio": 2, "roi_aligned": False, "exact_anchors": False},
    current=_current_torchvision,
)
_EXACT = {"roi_sampling_ratio": 0, "roi_aligned": True, "exact_anchors": True}
DETECTRON2_DETECTOR = DetectorLayout(
    "a Detectron2 Faster or Mask R-CNN with FPN",
    _layers(
        "backbone.fpn_lateral{}",
        "backbone.fpn_output{}",
        2,
        (
            *(f"proposal_generator.rpn_head.{layer}" for layer in ("conv", "objectness_logits", "anchor_deltas")),
            *("roi_heads.box_head.fc1", "roi_heads.box_head.fc2"),
            *("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"),
        ),
    ),
    _mask_layers("roi_heads.mask_head.mask_fcn{}", 1, ("roi_heads.mask_head.deconv", "roi_heads.mask_head.predictor")),
    DETECTRON2,
    background_last=True,
    options=_EXACT,
    unused=r"pixel_mean|pixel_std|proposal_generator\.anchor_generator\.cell_anchors\.\d|.*num_batches_tracked",
)
MMDETECTION = DetectorLayout(
    "an MMDetection Faster or Mask R-CNN with FPN",
    _layers(
        "neck.lateral_convs.{}.conv",
        "neck.fpn_convs.{}.conv",
        0,
        (
            *("rpn_head.rpn_conv", "rpn_head.rpn_cls", "rpn_head.rpn_reg"),
            *("roi_head.bbox_head.shared_fcs.0", "roi_head.bbox_head.shared_fcs.1"),
            *("roi_head.bbox_head.fc_cls", "roi_head.bbox_head.fc_reg"),
        ),
    ),
    _mask_layers(
        "roi_head.mask_head.convs.{}.conv", 0, ("roi_head.mask_head.upsample", "roi_head.mask_head.conv_logits")
    ),
    OPENMMLAB,
    background_last=True,
    options=_EXACT,
    unused=r"data_preprocessor\.(mean|std)|.*num_batches_tracked",
)
DETECTORS = (TORCHVISION, DETECTRON2_DETECTOR, MMDETECTION)


def split_detector(
    file: WeightsFile, own: Collection[str], class_ids: Sequence[int], class_agnostic: bool, source: str = "state dict"
) -> ModelParts:
    """A Faster or Mask R-CNN with FPN of any of the three libraries, as a backbone of ours and the head of that name.

    Args:
        file: the weights.
        own: names of our backbone's parameters and buffers.
        class_ids: raw category id of each of our K classes, in order. A file of K classes is taken as it is; of a
            larger one that was trained on COCO, the rows of background and of these ids are taken.
        class_agnostic: our head refines one box for all classes.
        source: names the file in messages.

    Raises:
        UserError: a tensor is not part of this architecture, one is missing, or the classes do not fit.
    """
    if "bbox_head.fc_cls.weight" in file.tensors:
        raise UserError(
            f"{source}: bbox_head.fc_cls.weight is of MMDetection 1, whose boxes and classes are numbered otherwise; "
            "convert the file with MMDetection 2's tools/model_converters/upgrade_model_version.py"
        )
    found = [(len(_named(layout, file.tensors).keys() & _theirs(layout).keys()), layout) for layout in DETECTORS]
    most, layout = max(found, key=lambda entry: entry[0])
    named, theirs = _named(layout, file.tensors), _theirs(layout)
    masks = _theirs(layout, layout.masks)
    if masks.keys() & named.keys():
        theirs |= masks
    rest = {key: tensor for key, tensor in named.items() if key not in theirs}
    # What a file says of its pixels is among the unused.
    prefix = layout.backbone.prefixes[0]
    layouts = [other for other in LAYOUTS if other.prefixes[0] == prefix]
    backbone = translate(replace(file, tensors=rest), own, layouts)
    body = {key: tensor for key, tensor in backbone.tensors.items() if key in backbone.names or key.startswith(prefix)}
    unknown = [key for key in backbone.tensors if key not in body and not re.fullmatch(layout.unused, key)]
    if unknown or not most:
        raise UserError(
            f"{source}: {some(unknown)} not part of {layout.model if most else 'any known detector'}; expected the "
            "state dict of a Faster or Mask R-CNN with FPN of torchvision's, Detectron2's or MMDetection's"
        )
    missing = sorted(theirs.keys() - named.keys())
    if missing or not body:
        raise UserError(
            f"{source}: {some(missing or [prefix + '*'])} missing; expected the whole state dict of {layout.model}"
        )
    head = {theirs[key]: named[key] for key in theirs}
    if layout.background_last:
        _background_first(head, class_agnostic)
    elif theirs.keys() >= masks.keys():
        for kind in KINDS:
            head[f"{MASKS}.{kind}"] = head[f"{MASKS}.{kind}"][1:]
    _select_classes(head, class_ids, layout, source)
    return ModelParts(body, head, backbone.origin, layout.options)


def join_detector(
    backbone: Mapping[str, Tensor], head: Mapping[str, Tensor], layout: DetectorLayout
) -> dict[str, Tensor]:
    """The inverse of `split_detector`: a library's state dict from those of our backbone and `FasterRCNN`, `MaskRCNN`.

    Detectron2's networks take blue, green, red, so their first convolution is turned round.
    """
    head = dict(head)
    if layout.background_last:
        _background_last(head)
    elif f"{MASKS}.bias" in head:
        for kind in KINDS:  # nobody reads the mask of background
            masks = head[f"{MASKS}.{kind}"]
            head[f"{MASKS}.{kind}"] = torch.cat((torch.zeros_like(masks[:1]), masks))
    prefix, names = layout.backbone.prefixes[0], layout.backbone.names(backbone)
    joined = {prefix + names[ours]: tensor for ours, tensor in backbone.items()}
    if layout is DETECTRON2_DETECTOR:  # its norms are frozen and count no batches
        joined = {
            key: turned_round(tensor) for key, tensor in joined.items() if not key.endswith("num_batches_tracked")
        }
    ours = {name: key for key, name in _theirs(layout, {**layout.layers, **layout.masks}).items()}
    return joined | {ours[name]: tensor for name, tensor in head.items()}


def _named(layout: DetectorLayout, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {layout.current(key): tensor for key, tensor in tensors.items()}


def _theirs(layout: DetectorLayout, layers: Mapping[str, str] | None = None) -> dict[str, str]:
    """The library's name of each tensor of some layers, else those that all have, and ours."""
    named = layout.layers if layers is None else layers
    return {f"{theirs}.{kind}": f"{ours}.{kind}" for ours, theirs in named.items() for kind in KINDS}


def _background_first(head: dict[str, Tensor], class_agnostic: bool) -> None:
    for kind in KINDS:
        scores, offsets = head[f"{SCORES}.{kind}"], head[f"{OFFSETS}.{kind}"]
        head[f"{SCORES}.{kind}"] = torch.cat((scores[-1:], scores[:-1]))
        if not class_agnostic:
            # Nobody reads the offsets of background: neither a loss nor a prediction.
            head[f"{OFFSETS}.{kind}"] = torch.cat((torch.zeros_like(offsets[:4]), offsets))


def _background_last(head: dict[str, Tensor]) -> None:
    for kind in KINDS:
        scores, offsets = head[f"{SCORES}.{kind}"], head[f"{OFFSETS}.{kind}"]
        head[f"{SCORES}.{kind}"] = torch.cat((scores[1:], scores[:1]))
        if len(offsets) == 4 * len(scores):
            head[f"{OFFSETS}.{kind}"] = offsets[4:]


def _select_classes(head: dict[str, Tensor], class_ids: Sequence[int], layout: DetectorLayout, source: str) -> None:
    count = len(head[f"{SCORES}.bias"])
    if count == len(class_ids) + 1:
        return
    # torchvision numbers the rows by the ids themselves.
    ids = COCO_IDS if layout.background_last and count == len(COCO_IDS) + 1 else list(range(1, count))
    if count < len(class_ids) + 1 or not set(class_ids) <= set(ids) or (layout.background_last and ids is not COCO_IDS):
        raise UserError(
            f"{source}: it has {count} classes with background, which fit neither {len(class_ids)} classes and "
            f"background nor the category ids {min(class_ids)} to {max(class_ids)}; "
            "expected weights trained on these categories"
        )
    rows = torch.tensor([0, *(ids.index(raw) + 1 for raw in class_ids)])
    for kind in KINDS:
        head[f"{SCORES}.{kind}"] = head[f"{SCORES}.{kind}"][rows]
        offsets = head[f"{OFFSETS}.{kind}"]
        if len(offsets) == 4 * count:  # else one box for all classes
            head[f"{OFFSETS}.{kind}"] = offsets.reshape(count, 4, *offsets.shape[1:])[rows].flatten(0, 1)
        masks = head.get(f"{MASKS}.{kind}")
        if masks is not None and len(masks) == count - 1:  # else one mask for all classes
            head[f"{MASKS}.{kind}"] = masks[rows[1:] - 1]
