"""Whether a checkpoint fits what it is loaded into: the classes, the pixels, the network."""

from collections.abc import Mapping
from pathlib import Path

import torch

from backbones.errors import UserError
from tasks.checkpoint import Checkpoint, Tensors
from tasks.config import Experiment
from tasks.label_map import LabelMap


def require_same_labels(checkpoint: Checkpoint, labels: Mapping[str, LabelMap]) -> None:
    """Raise `UserError`, with both shown, when a checkpoint's classes are not those of the data."""
    for head, classes in labels.items():
        theirs = checkpoint.labels.get(head)
        if theirs != classes:
            raise UserError(
                f"{checkpoint.folder}: its classes for {head!r} are {theirs or 'none'}; the data has {classes}; "
                "use the data it was trained on, or start a new run from it with --init"
            )


def require_same_image(checkpoint: Checkpoint, config: Experiment) -> None:
    """Raise `UserError`, with both shown, when a checkpoint was trained on other pixels than the config's."""
    if checkpoint.image != config.image:
        raise UserError(
            f"{checkpoint.folder}: its images are {checkpoint.image.model_dump()}; the config has "
            f"{config.image.model_dump()}; set image.* alike, or start a new run without its weights"
        )


def load_weights_strictly(model: torch.nn.Module, tensors: Tensors, source: Path) -> None:
    """Copy tensors into a model that must have exactly these.

    Raises:
        UserError: it is the checkpoint of another architecture; names the first differences.
    """
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    reshaped = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if missing or unexpected or reshaped:
        parts = [
            f"{len(names)} {what} (such as {min(names)})"
            for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
            if names
        ]
        raise UserError(
            f"{source}: weights of another architecture: {', '.join(parts)}; use the config it was made with"
        )
    model.load_state_dict(tensors)
