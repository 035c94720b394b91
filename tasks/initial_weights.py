"""What a new run starts from: published backbone weights, a whole model of another library's, or another run."""

from collections.abc import Mapping
from pathlib import Path

import torch

from backbones import UserError, load_weights
from backbones.layouts import Origin
from backbones.weights import fit, stride_warnings
from backbones.weights_file import read_weights
from heads import FCOS, YOLO, RetinaNet
from heads.classifier_layouts import split_classifier
from heads.detector_layouts import split_detector
from heads.model_layouts import ModelParts
from heads.one_stage_layouts import TORCHVISION_FCOS, TORCHVISION_RETINANET, split_one_stage
from heads.smp_layout import split_smp_model
from tasks.checkpoint import load_checkpoint
from tasks.checkpoint_fit import require_same_image
from tasks.config import Experiment, HeadConfig, SegmentationConfig
from tasks.head_choice import learning_heads
from tasks.image_spec import ImageSpec
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
        init: a run or checkpoint of ours to start from, in place of both.

    Returns:
        a line for people on each source.

    Raises:
        UserError: a source is missing, damaged or of another architecture.
    """
    run = run_to_start_from(config, init)
    if run is not None:
        return [_load_run(model, config, labels, run)]
    told = []
    if config.model.weights is not None:
        told += _load_whole_model(model, config, config.model.weights, labels)
    elif config.backbone.weights is not None:
        report = load_weights(model.backbone, config.backbone.weights)
        told.append(f"backbone weights: {report}")
        told += [f"warning: {line}" for line in (*report.warnings, *_image_warnings(report.origin, config.image))]
    elif config.backbone.norm == "frozen_bn" or config.backbone.frozen_stages:
        told.append(
            "warning: the backbone starts from random weights but has frozen parts, which then never learn; give "
            "--backbone.weights, or set --backbone.norm bn --backbone.frozen_stages 0"
        )
    return told


def run_to_start_from(config: Experiment, init: Path | None) -> Path | None:
    """The run or checkpoint of ours that weights come from: `init`, or `model.weights` where that is one."""
    weights = config.model.weights
    if init is None and weights is not None and (weights.is_dir() or weights.name == "state.json"):
        return weights
    return init


def resting_labels(config: Experiment, run: Path | None) -> dict[str, LabelMap]:
    """The classes of the heads that `model.train_only` leaves as a run has them; their data need not be at hand.

    Args:
        config: the experiment.
        run: where their weights are: the run to start from, or to resume.

    Raises:
        UserError: there is no run, or it has no such head.
    """
    resting = [name for name in config.heads if name not in learning_heads(config)]
    if not resting:
        return {}
    if run is None:
        raise UserError(
            f"model.train_only is {', '.join(config.model.train_only)}, so the backbone and {', '.join(resting)} would "
            "stay random; expected the run that they were trained in: give it with --init RUN or --model.weights RUN"
        )
    checkpoint = load_checkpoint(run, prefer_best=True)
    missing = [name for name in resting if name not in checkpoint.labels]
    if missing:
        raise UserError(
            f"{checkpoint.folder}: has no head {missing[0]!r}, only {', '.join(checkpoint.labels)}; the config has it "
            "and model.train_only leaves it out, so it would stay random: add it there, or take it out of the heads"
        )
    return {name: checkpoint.labels[name] for name in resting}


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
    left = [name for name in own if name not in fitting]
    _require_whole(left, config, checkpoint.folder)
    model.load_state_dict(fitting, strict=False)
    rest = f"; {len(left)} start anew ({', '.join(left[:3])}{', ...' if len(left) > 3 else ''})" if left else ""
    return f"weights: {len(fitting)} of {len(own)} tensors from {checkpoint.folder}{rest}"


def _require_whole(left: list[str], config: Experiment, source: Path) -> None:
    """Raise `UserError` where something starts anew that `model.train_only` keeps from learning."""
    if not config.model.train_only:
        return
    anew = tuple(f"heads.{name}." for name in learning_heads(config))
    lost = [name for name in left if not name.startswith((*anew, "loss_weights."))]
    if lost:
        raise UserError(
            f"{source}: lacks {len(lost)} tensors (such as {lost[0]}) of what model.train_only keeps as it is; set the "
            "backbone and the other heads as in that run"
        )


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


def _load_whole_model(model: Model, config: Experiment, file: Path, labels: Mapping[str, LabelMap]) -> list[str]:
    (name, classes), *others = labels.items()
    if others:
        raise UserError(
            f"model.weights {file} fills one head, but the config has {', '.join(labels)}; use --init instead"
        )
    parts, expected = _split(model, name, file, classes)
    backbone = model.backbone.adapt_weights(parts.backbone)
    state = {f"backbone.{key}": tensor for key, tensor in backbone.items()}
    state |= {f"heads.{name}.{key}": tensor for key, tensor in parts.head.items()}
    warnings = [
        *stride_warnings(model.backbone, parts.origin),
        *_option_warnings(name, config.heads[name], parts.options),
        *_dilation_warnings(model, name, config),
        *_image_warnings(parts.origin, config.image),
    ]
    source = f"the whole model from {file}"
    report, fitting = fit(source, model.state_dict(), state, model.backbone.in_channels, parts.origin, warnings)
    if report.missing or report.misshaped or report.unexpected:
        raise UserError(
            f"model.weights: {report}; expected {expected}, of this backbone and as many classes, and all of it"
        )
    model.load_state_dict(fitting, strict=False)
    return [f"weights: {report}", *(f"warning: {line}" for line in report.warnings)]


def _split(model: Model, name: str, file: Path, classes: LabelMap) -> tuple[ModelParts, str]:
    """A file as the parts of `model`, and what it was expected to hold."""
    given, head = read_weights(file), model.heads[name]
    own = model.backbone.state_dict().keys()
    if isinstance(head, RetinaNet | FCOS):
        layout = TORCHVISION_FCOS if isinstance(head, FCOS) else TORCHVISION_RETINANET
        names = head.state_dict().keys()
        return split_one_stage(given, own, names, classes.ids, layout, str(file)), layout.model
    if isinstance(head, YOLO):
        raise UserError(
            f"model.weights {file}: a head 'yolo' fits no model of another library; use --backbone.weights for its "
            "backbone, or --init with a run of ours"
        )
    match head.reads:
        case "boxes":
            agnostic = len(head.state_dict().get("roi_head.bbox_pred.bias", ())) == 4
            return (
                split_detector(given, own, classes.ids, agnostic, str(file)),
                "the Faster or Mask R-CNN with FPN of torchvision, Detectron2 or MMDetection",
            )
        case "labels":
            return split_classifier(given, own, str(file)), "a classifier of torchvision's, timm's or MMPretrain's"
    return split_smp_model(given, own, str(file)), "a model of segmentation-models-pytorch with this decoder"


def _dilation_warnings(model: Model, head: str, config: Experiment) -> list[str]:
    """A line where segmentation-models-pytorch would have dilated the backbone in another way."""
    if model.heads[head].reads != "masks" or config.backbone.output_stride in (None, 32):
        return []
    return [
        f"with backbone.output_stride {config.backbone.output_stride}, segmentation-models-pytorch dilates the first "
        "block of a stage as well, and ours does not; masks come out a little different until they are trained"
    ]


def _option_warnings(head: str, section: HeadConfig, options: Mapping[str, bool | int]) -> list[str]:
    """A line where the weights were trained with other options of the head."""
    other = {option: value for option, value in options.items() if getattr(section, option, value) != value}
    if not other:
        return []
    flags = " ".join(f"--heads.{head}.{option} {value}" for option, value in other.items())
    return [f"the weights expect {flags}; with other values boxes come out a little displaced until they are trained"]


def _image_warnings(origin: Origin, image: ImageSpec) -> list[str]:
    """A line where the weights expect images of other values than the config makes."""
    if origin.mean is None or origin.std is None or image.channels != 3:
        return []
    pairs = zip((*origin.mean, *origin.std), (*image.mean, *image.std), strict=True)
    if all(abs(theirs - ours) <= 0.02 * abs(theirs) for theirs, ours in pairs):
        return []
    flags = " ".join(f"{value:.4g}" for value in origin.mean), " ".join(f"{value:.4g}" for value in origin.std)
    return [
        f"the weights expect images with --image.mean {flags[0]} --image.std {flags[1]}; the config has "
        f"{' '.join(f'{value:.4g}' for value in image.mean)} and {' '.join(f'{value:.4g}' for value in image.std)}"
    ]
