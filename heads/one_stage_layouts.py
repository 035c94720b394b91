"""How torchvision names and arranges the tensors of its RetinaNets and its FCOS.

docs/weights.md tells what it does differently.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from backbones.errors import UserError
from backbones.layouts import TORCHVISION_DETECTOR, translate
from backbones.weights_file import WeightsFile
from heads.model_layouts import ModelParts, some

PREFIX = TORCHVISION_DETECTOR.prefixes[0]
CLASSES = "cls_logits"
# Of background, which has a row of logits in torchvision's and is never looked at in training: it never scores.
BACKGROUND_BIAS = -20.0


@dataclass(frozen=True, slots=True)
class OneStageLayout:
    """One of torchvision's one-stage detectors.

    Attributes:
        model: names it in messages.
        names: patterns of our names of the head's tensors, and what torchvision calls those.
        older: patterns of names of older versions, and the current ones.
        options: of our head, those under which it computes what torchvision's does.
    """

    model: str
    names: Mapping[str, str]
    older: Mapping[str, str]
    options: Mapping[str, bool]

    def theirs(self, ours: Collection[str]) -> dict[str, str]:
        """torchvision's name of each of our tensors of the head, and ours."""
        return {_renamed(name, self.names): name for name in ours}


def _renamed(name: str, patterns: Mapping[str, str]) -> str:
    for pattern, replacement in patterns.items():
        name, found = re.subn(rf"^{pattern}", replacement, name)
        if found:
            return name
    return name


_PYRAMID = {
    **{rf"fpn\.lateral\.c{level}\.": f"backbone.fpn.inner_blocks.{level - 3}.0." for level in (3, 4, 5)},
    **{rf"fpn\.output\.p{level}\.": f"backbone.fpn.layer_blocks.{level - 3}.0." for level in (3, 4, 5)},
    r"fpn\.extra\.": "backbone.fpn.extra_blocks.p6.",
    r"fpn\.further\.p7\.": "backbone.fpn.extra_blocks.p7.",
}
_LAYERS = {
    r"cls_logits\.": "head.classification_head.cls_logits.",
    r"bbox_pred\.": "head.regression_head.bbox_reg.",
    r"centerness\.": "head.regression_head.bbox_ctrness.",
}
_OLDER_PYRAMID = {r"backbone\.fpn\.(\w+_blocks)\.(\d)\.(weight|bias)$": r"backbone.fpn.\1.\2.0.\3"}


def _tower(branch: str, theirs: str, conv: str, norm: str) -> dict[str, str]:
    """The layers of one tower; `conv` and `norm` have the name of the layer of each block."""
    found = {}
    for number in range(4):
        found[rf"{branch}\.convs\.{number}\."] = f"head.{theirs}.conv.{conv.format(number, 3 * number)}."
        found[rf"{branch}\.norms\.{number}\."] = f"head.{theirs}.conv.{norm.format(number, 3 * number + 1)}."
    return found


def _towers(conv: str, norm: str) -> dict[str, str]:
    return {
        **_tower("classification_tower", "classification_head", conv, norm),
        **_tower("box_tower", "regression_head", conv, norm),
    }


TORCHVISION_RETINANET = OneStageLayout(
    "torchvision's RetinaNet with FPN",
    {**_PYRAMID, **_towers("{0}.0", "{0}.1"), **_LAYERS},
    # Its published file is older than its blocks of convolution and norm: there, every second layer was a ReLU.
    {
        **_OLDER_PYRAMID,
        **{
            rf"head\.(\w+_head)\.conv\.{2 * number}\.(weight|bias)$": rf"head.\1.conv.{number}.0.\2"
            for number in range(4)
        },
    },
    {"exact_anchors": False},
)
TORCHVISION_FCOS = OneStageLayout(
    "torchvision's FCOS with FPN",
    {**_PYRAMID, **_towers("{1}", "{1}"), **_LAYERS},
    _OLDER_PYRAMID,
    {"exact_points": False},
)


def split_one_stage(
    file: WeightsFile,
    own: Collection[str],
    head: Collection[str],
    class_ids: Sequence[int],
    layout: OneStageLayout,
    source: str = "state dict",
) -> ModelParts:
    """A one-stage detector of torchvision's as a backbone and head of ours.

    Args:
        file: the weights.
        own: names of our backbone's parameters and buffers.
        head: names of our head's.
        class_ids: raw category id of each of our K classes, in order. Of a file of K + 1 classes the first is taken for
            background and left out; of a larger one, the rows of these ids are taken.
        layout: which detector it has to be.
        source: names the file in messages.

    Raises:
        UserError: a tensor is not part of this detector, one is missing, or the classes do not fit.
    """
    theirs = layout.theirs(head)
    named = {_renamed(key, layout.older): tensor for key, tensor in file.tensors.items()}
    rest = {key: tensor for key, tensor in named.items() if key not in theirs}
    backbone = translate(replace(file, tensors=rest), own, [TORCHVISION_DETECTOR])
    body = {key: tensor for key, tensor in backbone.tensors.items() if key in backbone.names or key.startswith(PREFIX)}
    unknown = [key for key in backbone.tensors if key not in body]
    missing = sorted(theirs.keys() - named.keys()) or ([] if body else [f"{PREFIX}*"])
    if unknown or missing:
        wrong = f"{some(unknown)} not part of it" if unknown else f"{some(missing)} missing"
        raise UserError(f"{source}: expected the whole state dict of {layout.model}, of this head's options; {wrong}")
    found = {ours: named[key] for key, ours in theirs.items()}
    _select_classes(found, class_ids, layout, source)
    return ModelParts(body, found, backbone.origin, layout.options)


def join_one_stage(
    backbone: Mapping[str, Tensor], head: Mapping[str, Tensor], layout: OneStageLayout
) -> dict[str, Tensor]:
    """The inverse of `split_one_stage`: torchvision's state dict, with a class more, first, that is background."""
    names = TORCHVISION_DETECTOR.names(backbone)
    joined = {PREFIX + names[ours]: tensor for ours, tensor in backbone.items()}
    joined |= {theirs: head[ours] for theirs, ours in layout.theirs(head).items()}
    for kind, fill in (("weight", 0.0), ("bias", BACKGROUND_BIAS)):
        (key,) = layout.theirs([f"{CLASSES}.{kind}"])
        rows = _by_anchor(joined[key], head)
        joined[key] = torch.cat((torch.full_like(rows[:, :1], fill), rows), dim=1).flatten(0, 1)
    return joined


def _by_anchor(rows: Tensor, head: Mapping[str, Tensor]) -> Tensor:
    """(anchors at a cell, classes, ...) of rows of logits."""
    return rows.reshape(len(head["bbox_pred.bias"]) // 4, -1, *rows.shape[1:])


def _select_classes(head: dict[str, Tensor], class_ids: Sequence[int], layout: OneStageLayout, source: str) -> None:
    layer = CLASSES
    count = _by_anchor(head[f"{layer}.bias"], head).shape[1]
    if count == len(class_ids):
        return
    if count == len(class_ids) + 1:
        rows = list(range(1, count))
    elif count > len(class_ids) and max(class_ids) < count:
        rows = list(class_ids)  # torchvision numbers the rows by the ids themselves
    else:
        raise UserError(
            f"{source}: it has {count} classes, which fit neither {len(class_ids)} classes with or without background "
            f"nor the category ids {min(class_ids)} to {max(class_ids)}; expected weights trained on these categories"
        )
    for kind in ("weight", "bias"):
        head[f"{layer}.{kind}"] = _by_anchor(head[f"{layer}.{kind}"], head)[:, rows].flatten(0, 1)
