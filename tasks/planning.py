"""From the fingerprint of a data set to a config that a person reads, edits and trains.

Every choice is a line of the written file with its reason above it, as nnU-Net's rules turn a fingerprint into a plan
(Isensee et al. 2021); the rules are our own.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import UserError
from tasks.experiment_file import read_experiment
from tasks.fingerprint import Fingerprint, Kind, describe, take_fingerprint
from tasks.output import write_whole
from tasks.plan_duration import training_time
from tasks.progress import Reporter

FEW, MANY = 200, 1000  # images to train on
SMALLEST_OBJECT = 16  # pixels that the smallest tenth of objects should measure
IMBALANCE = 5  # how many times rarer than the most frequent class a rare one is
WINDOW = 512  # pixels of a crop
STEPS = 3000  # optimizer steps that training should take at least
SEGMENTS = {"boxes": "det", "masks": "seg", "labels": "cls"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A keyword argument of a part of the config and why it has its value; the reason may be empty."""

    name: str
    value: str
    reason: str = ""


def plan_data(root: Path, kind: Kind | None, out: Path | None) -> Path:
    """Measure the data under `root`, write a config for it and print both.

    Args:
        root: folder or file of the data.
        kind: of annotations to plan for; None finds it.
        out: file to write; None is `<name of root>_plan.py`.

    Raises:
        UserError: the data cannot be used, or the file exists.
    """
    out = out or Path(f"{root.resolve().stem}_plan.py")
    if out.suffix != ".py":
        raise UserError(f"--out is {out}; expected a name that ends in .py")
    if out.exists():
        raise UserError(f"{out} exists; expected a new file: give another with --out, or delete it")
    found = take_fingerprint(root, kind)
    write_whole(out, lambda file: file.write_text(write_plan(found), encoding="utf-8"))
    config = read_experiment(out).experiment
    reporter = Reporter()
    reporter.table(f"{root}: {found.kind}", ("", "found"), describe(found))
    reporter.say(f"Training: {training_time(config, len(found.classes), found.images)}")
    reporter.say(f"Written: {out}. Read it, change what you know better, then:  python tools/train.py {out}")
    return out


def write_plan(found: Fingerprint) -> str:
    """The text of the config."""
    side = _short_side(found)
    long_side = math.ceil(max(a / b for a, b in _shapes(found)) * side)
    windowed = found.kind == "masks" and long_side > 1.5 * WINDOW
    pixels = min(side, WINDOW) ** 2 if windowed else side * long_side
    batch = _batch_size(found, pixels)
    parts = {
        "BackboneConfig": _backbone(found),
        "AugmentConfig": _augment(found, windowed),
        "DataConfig": _data(found, side, long_side, batch),
        "OptimizerConfig": _optimizer(found, batch),
        "ScheduleConfig": _schedule(found, batch),
        "ImageSpec": _image(found),
    }
    head, choices = _head(found, side)
    parts[head] = choices
    if windowed:
        reason = "images are larger than the crops that the network learns from"
        parts["InferenceConfig"] = [Choice("window", repr((WINDOW, WINDOW)), reason)]
    name = f"{''.join(c if c.isalnum() else '_' for c in found.root.resolve().stem)}_{SEGMENTS[found.kind]}"
    imported = sorted([*(part for part in parts if part != "ImageSpec"), "Experiment"])
    lines = [
        f'"""A plan for {found.images} images and their {found.kind}, classes: {len(found.classes)}. Yours to change.',
        "",
        "    python tools/train.py THIS_FILE",
        '"""',
        "",
        "from pathlib import Path",
        "",
        "from tasks.config import (",
        *(f"    {part}," for part in imported),
        ")",
        "from tasks.image_spec import ImageSpec",
        "",
        "",
        "def config() -> Experiment:",
        *_call("    augment = AugmentConfig(", parts["AugmentConfig"], "    )"),
        "    return Experiment(",
        f'        name="{name}",',
        *_call("        backbone=BackboneConfig(", parts["BackboneConfig"], "        ),"),
        *_call(f'        heads={{"{found.kind}": {head}(', parts[head], "        )},"),
        *_call("        image=ImageSpec(", parts["ImageSpec"], "        ),"),
        *_call("        data=DataConfig(", parts["DataConfig"], "        ),"),
        *_call("        optimizer=OptimizerConfig(", parts["OptimizerConfig"], "        ),"),
        *_call("        schedule=ScheduleConfig(", parts["ScheduleConfig"], "        ),"),
    ]
    if windowed:
        lines += _call("        inference=InferenceConfig(", parts["InferenceConfig"], "        ),")
    return "\n".join([*lines, "    )", ""])


def _call(start: str, choices: list[Choice], end: str) -> list[str]:
    indent = " " * (len(start) - len(start.lstrip()) + 4)
    lines = [start]
    for choice in choices:
        lines += [f"{indent}# {choice.reason[:1].upper()}{choice.reason[1:]}."] * bool(choice.reason)
        lines.append(f"{indent}{choice.name}={choice.value},")
    return [*lines, end]


def _shapes(found: Fingerprint) -> list[tuple[float, float]]:
    """Long and short side of the images at the least, the median and the most."""
    sizes = zip(found.heights[::2], found.widths[::2], strict=True)
    return [(max(size), min(size)) for size in sizes]


def _short_side(found: Fingerprint) -> int:
    """Pixels of the resized short side, a multiple of 32."""
    side = min(found.heights[2], found.widths[2])
    if found.kind == "labels":
        return min(max(64, _to_32(side)), 224)
    smallest = found.object_sizes[1]
    if found.kind == "boxes" and smallest:
        least = side * SMALLEST_OBJECT / smallest
        return _to_32(min(max(min(side, 800), least), 2 * side, 1024))
    return max(64, _to_32(min(side, 1024)))


def _batch_size(found: Fingerprint, pixels: float) -> int:
    """A power of two: about 4 million pixels a step, and at least 8 steps an epoch."""
    limit = {"boxes": 16, "masks": 16, "labels": 64}[found.kind]
    wanted = min(4e6 / pixels, limit, max(found.images / 8, 2))
    return 1 << int(math.log2(max(wanted, 2)))


def _backbone(found: Fingerprint) -> list[Choice]:
    name = "resnet50" if found.images >= MANY and found.heights[2] > 64 else "resnet18"
    size = "few images: a small network overfits less" if name == "resnet18" else "enough images for a larger network"
    source = "published weights are downloaded once; without a network, give a file or None"
    norm = [Choice("norm", '"frozen_bn"', "batches are small, and the weights bring good statistics")]
    return [
        Choice("name", f'"{name}"', f"{found.images} images of median height {found.heights[2]:g}: {size}"),
        Choice("weights", f'"torchvision/{name}"', source),
        *(norm if found.kind == "boxes" else []),
    ]


def _image(found: Fingerprint) -> list[Choice]:
    colour = found.channels not in (1, 3)
    choices = [Choice("channels", f"{found.channels if colour else 3}")]
    if found.channels == 1:
        choices = [Choice("channels", "3", "grey is repeated: the published weights expect colour")]
    depth = {"uint8": 8, "uint16": 16, "float32": 32}[found.pixel]
    choices.append(Choice("bit_depth", f"{depth}", f"files store {found.pixel}; no level is lost"))
    low, high = found.low, max(found.high, found.low + 1e-6)
    if found.pixel != "uint8" and found.white_spread > 0.25 and low > -500:
        reason = f"brightness differs between images (by {100 * found.white_spread:.0f} %), so each has its own range"
        choices.append(Choice("percentiles", "(0.5, 99.5)", reason))
    elif found.pixel != "uint8":
        reason = "one range for all images, since values mean the same in each: 0.5 to 99.5 % of the values found"
        choices.append(Choice("low", f"{low:.6g}", reason))
        choices.append(Choice("high", f"{high:.6g}"))
    if colour:
        white = {"uint8": 255.0}.get(found.pixel, high)
        black = 0.0 if found.pixel == "uint8" else low
        mean = tuple(round((value - black) / (white - black), 4) for value in found.mean)
        std = tuple(round(max(value / (white - black), 1e-3), 4) for value in found.std)
        choices.append(Choice("mean", repr(mean), "as measured"))
        choices.append(Choice("std", repr(std)))
    return choices


def _data(found: Fingerprint, side: int, long_side: int, batch: int) -> list[Choice]:
    choices = [Choice("root", f"Path({json.dumps(found.root.resolve().as_posix(), ensure_ascii=False)})")]
    size = f"images are {found.heights[2]:g} x {found.widths[2]:g} (median height x width)"
    if found.kind == "labels":
        choices.append(Choice("size", repr((side, side)), f"{size}; 224 is what the weights were trained on"))
    else:
        if found.kind == "boxes":
            size += f"; a tenth of the objects is below {found.object_sizes[1]:.0f} px: {SMALLEST_OBJECT} px are wanted"
        choices.append(Choice("short_side", f"({side},)", size))
        choices.append(Choice("long_side", f"{long_side}"))
    reason = "at most 4 million pixels and an eighth of the images a step; lower it if memory ends"
    choices.append(Choice("batch_size", f"{batch}", reason))
    rarest, commonest = min(found.share), max(found.share)
    drawn = found.kind == "boxes" or (found.kind == "labels" and found.labels == "multi")  # others have class weights
    if drawn and rarest and commonest > IMBALANCE * rarest:
        times = f"the most frequent class is {commonest / rarest:.0f} times as frequent as the rarest"
        choices.append(Choice("balance", "0.5", f"{times}: images of rare classes are drawn more often"))
    if found.made_split and 2 <= found.groups < FEW:
        folds = min(5, found.groups)
        reason = f"{found.groups} groups: one held-out part is luck; tools/cross_validate.py uses all {folds}"
        choices.append(Choice("folds", f"{folds}", reason))
    return [*choices, Choice("augment", "augment")]


def _augment(found: Fingerprint, windowed: bool) -> list[Choice]:
    if found.medical:
        choices = [
            Choice("horizontal_flip", "0.0", "left and right differ in a body; 0.5 if that does not matter here")
        ]
        choices.append(Choice("rotate", "10.0", "patients do not lie the same way"))
    else:
        choices = [
            Choice("horizontal_flip", "0.5", "set vertical_flip=0.5 too where up and down look alike (microscopy)")
        ]
    if found.kind == "labels":
        return [*choices, Choice("random_resized_crop", "(0.5, 1.0)", "objects vary in size and place")]
    if found.images < MANY:
        choices.append(Choice("scale_jitter", "(0.8, 1.25)", f"{found.images} images show few sizes"))
    if found.channels == 3:
        choices.append(Choice("colour", "0.2", "light and stain vary"))
    if windowed:
        choices.append(Choice("crop", repr((WINDOW, WINDOW)), "whole images do not fit a batch"))
    return choices


def _head(found: Fingerprint, side: int) -> tuple[str, list[Choice]]:
    if found.kind == "boxes":
        return "FasterRCNNConfig", _boxes(found, side)
    share = [value for value in found.share if value]
    if found.kind == "masks":
        rarest = min([*share, max(1 - sum(found.share), 1e-6)]) if share else 1.0
        losses = '{"cross_entropy": 1.0, "dice": 1.0}'
        reason = "cross entropy learns steadily, Dice does not mind rare classes"
        if rarest < 0.005:
            losses = '{"focal": 1.0, "dice": 1.0}'
            reason = f"the rarest class has {100 * rarest:.2g} % of the pixels: focal loss turns to what is hard"
        return "UNetConfig", [Choice("losses", losses, reason)]
    choices = [Choice("target", f'"{found.labels}"')]
    if found.labels == "single" and 0 not in found.share and max(share) > IMBALANCE * min(share):
        choices.append(
            Choice("class_weights", '"balanced"', f"the rarest class has {100 * min(share):.2g} % of the images")
        )
    return "ClassificationConfig", choices


def _boxes(found: Fingerprint, side: int) -> list[Choice]:
    scale = side / min(found.heights[2], found.widths[2])
    low, high = found.object_sizes[0] * scale, found.object_sizes[4] * scale
    # One size a level, in equal factors; a box is matched by anchors of up to 1.4 times its sides.
    first = max(low, 8)
    factor = max(high / first, 2) ** 0.25
    sizes = [round(first * factor**step) for step in range(5)]
    ratios = (0.5, 1.0, 2.0)
    if found.aspect_ratios[1] < 0.4 or found.aspect_ratios[3] > 2.5:
        middle = found.aspect_ratios[1:4]
        ratios = (round(middle[0], 2), round(middle[1], 2), round(middle[2], 2))
    most = found.objects[4]
    return [
        Choice(
            "anchor_sizes",
            repr(tuple(sizes)),
            f"after resizing, 96 % of the objects measure {low:.0f} to {high:.0f} px",
        ),
        Choice("aspect_ratios", repr(ratios), f"median height by width is {found.aspect_ratios[2]:.2f}"),
        Choice("detections_per_image", f"{max(100, round(1.5 * most))}", f"at most {most:.0f} objects in an image"),
    ]


def _optimizer(found: Fingerprint, batch: int) -> list[Choice]:
    if found.kind == "boxes":
        return [Choice("lr", f"{0.02 * batch / 16:g}", f"0.02 for 16 images, in proportion for {batch}")]
    return [
        Choice("name", '"adamw"', "forgives a learning rate that is not quite right"),
        Choice("lr", "0.0005"),
        Choice("weight_decay", "0.05"),
    ]


def _schedule(found: Fingerprint, batch: int) -> list[Choice]:
    steps = max(found.images // batch, 1)
    epochs = min(max(math.ceil(STEPS / steps), 12), 100)
    warmup = min(500, max(1, epochs * steps // 20))
    return [
        Choice("epochs", f"{epochs}", f"{steps} steps an epoch, {epochs * steps} in all"),
        Choice("policy", '"cosine"'),
        Choice("warmup_steps", f"{warmup}", "a twentieth of them"),
    ]


def _to_32(value: float) -> int:
    return max(32, 32 * round(value / 32))
