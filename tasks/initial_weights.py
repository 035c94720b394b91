"""What a new run starts from: published backbone weights, a whole model of another library's, or another run."""

from collections.abc import Mapping
from pathlib import Path

import torch

from backbones import UserError, load_weights
from backbones.weights_file import read_weights
from heads.smp_layout import split_smp_model
from heads.torchvision_layout import split_torchvision_classifier, split_torchvision_detector
from tasks.checkpoint import load_checkpoint, require_same_image
from tasks.config import Experiment, SegmentationConfig
from tasks.label_map import LabelMap
from tasks.model import Model, build_model


def load_initial_weights(
    model: Model, config: Experiment, labels: Mapping[str, LabelMap], init: Path | None
) -> list[str]:
    """Fill a new model from what its experiment names, the more complete source last.

    Args:
        model: of `config`, with random weights.
        config: `backbone.weights` and `model.weights` are read.
        labels: classes of each head.
        init: a run or checkpoint to start from, in place of both.

    Returns:
        a line for people on each source.

    Raises:
        UserError: a source is missing, damaged or of another architecture.
    """
    if init is not None:
        return [_load_run(model, config, labels, init)]
    told = []
    if config.model.weights is not None:
        told.append(_load_whole_model(model, config.model.weights, labels))
    elif config.backbone.weights is not None:
        told.append(f"backbone weights: {load_weights(model.backbone, config.backbone.weights)}")
    elif config.backbone.norm == "frozen_bn" or config.backbone.frozen_stages:
        told.append(
            "warning: the backbone starts from random weights but has frozen parts, which then never learn; give "
            "--backbone.weights, or set --backbone.norm bn --backbone.frozen_stages 0"
        )
    return told


def _load_run(model: Model, config: Experiment, labels: Mapping[str, LabelMap], init: Path) -> str:
    checkpoint = load_checkpoint(init, prefer_best=True)
    require_same_image(checkpoint, config)
    given, own = checkpoint.weights(), model.state_dict()
    others = tuple(f"heads.{head}." for head, classes in labels.items() if checkpoint.labels.get(head) != classes)
    anew = {name for name in class_tensors(config, labels) if name.startswith(others)} if others else set()
    fitting = {
        name: given[name] for name in own if name in given and given[name].shape == own[name].shape and name not in anew
    }
    # Another head on the same backbone is welcome; of another backbone, some tensors fit by accident.
    backbone = [name for name in own if name.startswith("backbone.")]
    found = sum(name in fitting for name in backbone)
    if 2 * found < len(backbone):
        raise UserError(
            f"{checkpoint.folder}: only {found} of the {len(backbone)} tensors of the backbone fit; it holds "
            f"{checkpoint.config.backbone.name}, the config names {config.backbone.name}; set --backbone.name and its "
            "options alike, or start a new run without its weights"
        )
    model.load_state_dict(fitting, strict=False)
    left = [name for name in own if name not in fitting]
    rest = f"; {len(left)} start anew ({', '.join(left[:3])}{', ...' if len(left) > 3 else ''})" if left else ""
    return f"weights: {len(fitting)} of {len(own)} tensors from {checkpoint.folder}{rest}"


def class_tensors(config: Experiment, labels: Mapping[str, LabelMap]) -> set[str]:
    """Names of the tensors whose shape depends on the classes, found by building the model with one class more."""
    one_more = {
        head: LabelMap(ids=(*classes.ids, max(classes.ids) + 1), names=(*classes.names, "".join(classes.names) + "+"))
        for head, classes in labels.items()
    }
    free = config.model_copy(deep=True)  # of options that fix the number of classes
    for section in free.heads.values():
        for option in ("class_weights", "value_mean", "value_std"):
            if hasattr(section, option):
                setattr(section, option, None)
        if isinstance(section, SegmentationConfig) and section.target == "binary":
            section.target = "multilabel"  # has the same tensors
    with torch.device("meta"):
        ours, theirs = (build_model(free, maps).state_dict() for maps in (labels, one_more))
    return {name for name, tensor in ours.items() if tensor.shape != theirs[name].shape}


def _load_whole_model(model: Model, file: Path, labels: Mapping[str, LabelMap]) -> str:
    (name, classes), *others = labels.items()
    if others:
        raise UserError(
            f"model.weights {file} fills one head, but the config has {', '.join(labels)}; use --init instead"
        )
    given = read_weights(file).tensors
    match model.heads[name].reads:
        case "boxes":
            expected = "torchvision's Faster R-CNN"
            backbone, head = split_torchvision_detector(given, classes.ids)
        case "labels":
            expected = "a classifier of torchvision's"
            backbone, head = split_torchvision_classifier(given, str(file))
        case _:
            expected = "a model of segmentation-models-pytorch with this decoder"
            backbone, head = split_smp_model(given, str(file))
    state = {f"backbone.{key}": tensor for key, tensor in backbone.items()}
    state |= {f"heads.{name}.{key}": tensor for key, tensor in head.items()}
    own = model.state_dict()
    # Frozen norms have no such counter; it takes no part in the arithmetic.
    state = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    misfits = [key for key in own if key not in state or own[key].shape != state[key].shape]
    misfits = [key for key in misfits if not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in own]
    if misfits or unknown:
        raise UserError(
            f"model.weights {file}: {len(misfits)} tensors missing or of another shape ({', '.join(misfits[:3])}), "
            f"{len(unknown)} unknown ({', '.join(unknown[:3])}); expected {expected}, of this backbone and as many "
            "classes"
        )
    model.load_state_dict(state, strict=False)
    return f"weights: the whole model from {file}"
