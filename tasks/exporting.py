"""A run's weights as a file that another library loads."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.errors import UserError
from heads import Classification, ImageSizes, SegmentationHead
from tasks.checkpoint import load_checkpoint
from tasks.export_targets import (
    detectron2_target,
    mmdetection_target,
    smp_target,
    timm_target,
    torchvision_target,
)
from tasks.foreign_network import Recipe, Source, Target
from tasks.model import Model, build_model
from tasks.output import write_whole
from tasks.progress import Reporter

Layout = Literal["torchvision", "timm", "smp", "detectron2", "mmdetection"]
TARGETS: dict[Layout, Callable[[Source], Target]] = {
    "torchvision": torchvision_target,
    "timm": timm_target,
    "smp": smp_target,
    "detectron2": detectron2_target,
    "mmdetection": mmdetection_target,
}


def export_weights(run: Path, layout: Layout, out: Path, head: str | None = None) -> None:
    """Write the best weights of a run by the names of another library, and say how to load them there.

    Where the other library is at hand, its network is built and loaded strictly first, and must compute what ours does.

    Args:
        run: a run folder or a checkpoint.
        layout: one of `TARGETS`.
        out: the file, `.pth` or `.safetensors`.
        head: which head; None where there is one.

    Raises:
        UserError: the other library has no such network, or the file cannot be written.
    """
    if out.suffix not in (".pth", ".safetensors"):
        raise UserError(f"{out}: weights are written to .pth or .safetensors files; this is {out.suffix!r}")
    if out.suffix == ".safetensors" and layout in ("detectron2", "mmdetection"):
        raise UserError(f"{out}: {layout} does not read safetensors; give --out a name that ends in .pth")
    checkpoint = load_checkpoint(run, prefer_best=True)
    config = checkpoint.config
    if head is None and len(config.heads) > 1:
        raise UserError(f"{run}: has the heads {', '.join(config.heads)}; name one with --head")
    name = head or next(iter(config.heads))
    if name not in config.heads:
        raise UserError(f"{run}: has no head {name!r}; its heads are {', '.join(config.heads)}")
    weights = checkpoint.weights()
    source = Source(
        config,
        config.heads[name],
        _within(weights, "backbone."),
        _within(weights, f"heads.{name}."),
        str(checkpoint.folder),
    )
    target = TARGETS[layout](source)
    if target.recipe is not None:
        model = build_model(config, checkpoint.labels)
        model.load_state_dict(weights)
        _require_equal(model.eval(), name, target.recipe, target.tensors, source)
    tensors = {key: tensor.contiguous() for key, tensor in target.tensors.items()}
    write_whole(out, lambda file: _save(tensors, file))
    reporter = Reporter()
    reporter.say(f"{out}: {len(tensors)} tensors of {checkpoint.folder} by {layout}'s names")
    if target.recipe is not None:
        reporter.say(f"built by {target.recipe}")
    for note in target.notes:
        reporter.say(note)
    reporter.say(f"classes, in order: {', '.join(checkpoint.labels[name].names)}")
    values = config.image.model_dump(exclude_defaults=True, exclude={"mean", "std"})
    reporter.say(
        f"images: mean {config.image.mean}, std {config.image.std} of pixels from 0 to 1{', ' * bool(values)}"
        + ", ".join(f"{key} {value}" for key, value in values.items())
    )


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    try:
        save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)
    except (RuntimeError, SafetensorError) as error:  # what both make of a full disk
        raise OSError(None, " ".join(str(error).split()), str(file)) from error


def _within(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def _require_equal(model: Model, head: str, recipe: Recipe, tensors: dict[str, Tensor], source: Source) -> None:
    """Raise `UserError` unless the other network takes the weights as they are and computes the same from them."""
    library = recipe.function.partition(".")[0]
    theirs = recipe.build().eval()
    try:
        theirs.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        source.refuse(library, f"{recipe} has other tensors ({' '.join(str(error).split())[:200]})")
    ours = model.heads[head]
    if not isinstance(ours, Classification | SegmentationHead):
        return  # of a detector, all that differs is in its options, which have been compared
    images = torch.randn(1, model.backbone.in_channels, 64, 96, generator=torch.Generator().manual_seed(0))
    found, expected = _outputs(model, ours, images), theirs(images)
    if isinstance(ours, Classification):
        expected = expected.sigmoid() if ours.target == "multi" else expected.softmax(dim=1)
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
        source.refuse(library, f"{recipe} takes these weights but computes something else from them")


def _outputs(model: Model, head: nn.Module, images: Tensor) -> Tensor:
    size = torch.tensor([images.shape[-2:]])
    features = model.backbone(images)
    sizes = ImageSizes((images.shape[-2], images.shape[-1]), size, size)
    if isinstance(head, SegmentationHead):
        return head.logits(features, sizes)
    assert isinstance(head, Classification)
    return head.scores(features, sizes)
