"""Reads models saved by torchvision, by the names of their tensors: `fasterrcnn_resnet50_fpn` and its kin, ResNets."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from backbones.errors import UserError

# torchvision wraps each convolution in a block (".0.") since 0.14; its published files are older and do not.
_HEAD_KEYS = (
    (re.compile(r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(weight|bias)"), "fpn.lateral.c{level}.{kind}"),
    (re.compile(r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(weight|bias)"), "fpn.output.p{level}.{kind}"),
    (re.compile(r"rpn\.head\.conv(?:\.0\.0)?()\.(weight|bias)"), "rpn.conv.{kind}"),
    (re.compile(r"rpn\.head\.(cls_logits|bbox_pred)\.(weight|bias)"), "rpn.{name}.{kind}"),
    (re.compile(r"roi_heads\.box_head\.(fc6|fc7)\.(weight|bias)"), "roi_head.{name}.{kind}"),
    (re.compile(r"roi_heads\.box_predictor\.(cls_score|bbox_pred)\.(weight|bias)"), "roi_head.{name}.{kind}"),
)
_BODY = "backbone.body."


def split_torchvision_detector(
    state: Mapping[str, Tensor], class_ids: Sequence[int], source: str = "state dict"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A torchvision Faster R-CNN's state dict as those of our backbone and of `FasterRCNN`.

    Args:
        state: tensors by torchvision's names; `backbone.body` may be of any network whose parameters are named alike.
        class_ids: raw category id of each of our K classes, in order. A file with K + 1 classes (background first) is
            taken as it is; of a larger one, such as the 91 of COCO, the rows of background and of these ids are taken.
        source: names the file in messages.

    Returns:
        The backbone's state and the head's.

    Raises:
        UserError: a tensor is not part of this architecture, one is missing, or the classes do not fit.
    """
    backbone, head, unknown = {}, {}, []
    for key, tensor in state.items():
        if key.startswith(_BODY):
            backbone[key.removeprefix(_BODY)] = tensor
        elif (name := _head_key(key)) is not None:
            head[name] = tensor
        else:
            unknown.append(key)
    if unknown:
        raise UserError(
            f"{source}: {_some(unknown)} not part of a torchvision Faster R-CNN with FPN; "
            "expected the state dict of fasterrcnn_resnet50_fpn"
        )
    missing = sorted(_expected() - head.keys())
    if missing or not backbone:
        raise UserError(
            f"{source}: {_some(missing or [_BODY + '*'])} missing; "
            "expected the whole state dict of fasterrcnn_resnet50_fpn"
        )
    _select_classes(head, class_ids, source)
    return backbone, head


def split_torchvision_classifier(
    state: Mapping[str, Tensor], source: str = "state dict"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A torchvision ResNet's state dict as those of our backbone and of `Classification`.

    Args:
        state: tensors by torchvision's names.
        source: names the file in messages.

    Returns:
        The backbone's state and the head's.

    Raises:
        UserError: the classifier `fc` is missing.
    """
    missing = sorted({"fc.weight", "fc.bias"} - state.keys())
    if missing:
        raise UserError(
            f"{source}: {_some(missing)} missing; "
            "expected the whole state dict of a torchvision ResNet with its classifier"
        )
    head = {f"linear.{kind}": state[f"fc.{kind}"] for kind in ("weight", "bias")}
    return {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}, head


def _head_key(key: str) -> str | None:
    for pattern, name in _HEAD_KEYS:
        if found := pattern.fullmatch(key):
            which, kind = found.groups()
            return name.format(level=int(which) + 2 if which.isdigit() else "", name=which, kind=kind)
    return None


def _expected() -> set[str]:
    layers = [f"fpn.lateral.c{level}" for level in range(2, 6)] + [f"fpn.output.p{level}" for level in range(2, 6)]
    layers += ["rpn.conv", "rpn.cls_logits", "rpn.bbox_pred"]
    layers += [f"roi_head.{name}" for name in ("fc6", "fc7", "cls_score", "bbox_pred")]
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def _select_classes(head: dict[str, Tensor], class_ids: Sequence[int], source: str) -> None:
    count = len(head["roi_head.cls_score.bias"])
    if count == len(class_ids) + 1:
        return
    if count < len(class_ids) + 1 or not all(0 < raw < count for raw in class_ids):
        raise UserError(
            f"{source}: it has {count} classes with background, which fit neither {len(class_ids)} classes and "
            f"background nor the category ids {min(class_ids)} to {max(class_ids)}; "
            "expected weights trained on these categories"
        )
    rows = torch.tensor([0, *class_ids])
    for kind in ("weight", "bias"):
        head[f"roi_head.cls_score.{kind}"] = head[f"roi_head.cls_score.{kind}"][rows]
        offsets = head[f"roi_head.bbox_pred.{kind}"]
        # Of each class four rows; a class-agnostic file would have four in all, and torchvision writes none.
        head[f"roi_head.bbox_pred.{kind}"] = offsets.reshape(count, 4, *offsets.shape[1:])[rows].flatten(0, 1)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return (
        f"{shown} and {len(names) - 3} more are" if len(names) > 3 else f"{shown} {'are' if len(names) > 1 else 'is'}"
    )
