"""Checkpoints: safetensors and JSON in a folder that exists whole or not at all. Nothing is ever unpickled.

runs/x/checkpoints/
    step_00000512/
        model.safetensors       weights
        ema.safetensors         their moving average, when kept
        optimizer.safetensors   "<parameter>/<slot>": momentum and the like
        losses.safetensors      sums since the last line of the log
        state.json              step, label maps, image spec, resolved config
    best.json                   names the best of them
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from backbones.errors import UserError
from tasks.config import Experiment
from tasks.data.files.limits import read_bounded
from tasks.head_choice import heads_to_use
from tasks.image_spec import ImageSpec
from tasks.label_map import LabelMap

FORMAT = 1
Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint folder says of itself; its tensors are read when asked for.

    Attributes:
        folder: where it lies.
        step: optimizer steps done.
        labels: classes of each head.
        config: the resolved experiment.
        scaler: state of the fp16 gradient scaler, empty without one.
        steps_per_epoch: what `step` was counted in.
    """

    folder: Path
    step: int
    labels: dict[str, LabelMap]
    config: Experiment
    scaler: dict[str, Any]
    steps_per_epoch: int

    @property
    def image(self) -> ImageSpec:
        """How its images become numbers."""
        return self.config.image

    def tensors(self, part: str) -> Tensors:
        """Tensors of "model", "ema", "optimizer" or "losses"; empty when the checkpoint has no such part.

        Raises:
            UserError: the file is truncated or damaged.
        """
        file = self.folder / f"{part}.safetensors"
        if part != "model" and not file.exists():
            return {}
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{file}: damaged or truncated ({error}); use another checkpoint: without this folder, --resume goes "
                "on from the one before it"
            ) from None

    def weights(self) -> Tensors:
        """The weights to evaluate and predict with: the moving average when there is one.

        Those of heads that `labels` does not name, and weights of losses that `config` does not learn, are left out.
        """
        tensors = self.tensors("ema") or self.tensors("model")
        return {name: tensor for name, tensor in tensors.items() if self._holds(name)}

    def keep(self, only: Sequence[str]) -> "Checkpoint":
        """The same checkpoint with some of its heads, to be evaluated or used; empty keeps all.

        Raises:
            UserError: it has no such head.
        """
        if not only:
            return self
        config = heads_to_use(self.config, only)
        return replace(self, config=config, labels={name: self.labels[name] for name in config.heads})

    def _holds(self, tensor: str) -> bool:
        part, _, rest = tensor.partition(".")
        if part == "loss_weights":
            return self.config.losses.learned
        return part != "heads" or rest.split(".")[0] in self.labels


def save_checkpoint(
    root: Path,
    step: int,
    tensors: Mapping[str, Tensors],
    labels: Mapping[str, LabelMap],
    config: Experiment,
    scaler: Mapping[str, Any],
    steps_per_epoch: int,
) -> Path:
    """Write `root/step_<step>` so that a crash at any instant leaves either the whole folder or none.

    Raises:
        UserError: the disk is full or cannot be written; earlier checkpoints are untouched.
    """
    final = root / f"step_{step:08d}"
    if final.exists():  # It is whole, and the same step of one run has the same content.
        return final
    writing = root / f".writing_{final.name}"
    state = {
        "format": FORMAT,
        "step": step,
        "labels": {head: classes.model_dump(mode="json") for head, classes in labels.items()},
        "config": config.model_dump(mode="json"),
        "scaler": dict(scaler),
        "steps_per_epoch": steps_per_epoch,
    }
    try:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
        for part, named in tensors.items():
            save_file(_stored(named), writing / f"{part}.safetensors")
        (writing / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        for file in (*writing.iterdir(), writing):
            _flush(file)
        writing.rename(final)
        _flush(root)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(writing, ignore_errors=True)
        kept = latest_checkpoint(root)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
            sign in str(error) for sign in ("No space", "File too large")
        )
        mend = "free some space" if full else "make the folder one that can be written to"
        raise UserError(
            f"{final}: cannot save: {'no space left on the disk' if full else error}; "
            + (f"{kept} is whole, {mend} and go on with --resume {root.parent}" if kept else mend)
        ) from error
    return final


def load_checkpoint(path: Path, *, prefer_best: bool) -> Checkpoint:
    """Open a run folder's best or latest checkpoint, or a checkpoint folder itself.

    Raises:
        UserError: there is none, it is a pickle, or its description is damaged or of another format.
    """
    if path.is_file() and path.name in ("state.json", "model.safetensors"):
        path = path.parent
    if path.is_file():
        raise UserError(
            f"{path}: not a checkpoint; expected a run folder or a folder step_* with model.safetensors and state.json "
            "(pickled files such as .pt are never opened)"
        )
    if not path.exists():
        raise UserError(f"{path}: no such folder; expected a run folder or a checkpoint")
    folder = path
    if not (path / "state.json").exists():
        root = path / "checkpoints"
        found = (best_checkpoint(root) if prefer_best else None) or latest_checkpoint(root)
        if found is None:
            raise UserError(f"{path}: holds no checkpoint; expected checkpoints/step_*/state.json in it")
        folder = found
    try:
        state = json.loads(read_bounded(folder / "state.json"))
        if state["format"] != FORMAT:
            raise UserError(f"{folder}: checkpoint format {state['format']}; this version reads {FORMAT}")
        labels = {head: LabelMap.model_validate(classes) for head, classes in state["labels"].items()}
        config = Experiment.model_validate(state["config"])
        return Checkpoint(folder, int(state["step"]), labels, config, state["scaler"], int(state["steps_per_epoch"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, ValidationError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder / 'state.json'}: damaged ({reason}); use another checkpoint") from None


def latest_checkpoint(root: Path) -> Path | None:
    """The checkpoint of the most steps."""
    return max(root.glob("step_*"), default=None)


def best_checkpoint(root: Path) -> Path | None:
    """The checkpoint that `mark_best` named, if it is still there."""
    try:
        folder = root / str(json.loads((root / "best.json").read_text(encoding="utf-8"))["checkpoint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if folder.exists() else None


def mark_best(root: Path, checkpoint: Path, metric: str, value: float) -> None:
    """Name the best checkpoint, atomically."""
    writing = root / ".writing_best.json"
    writing.write_text(json.dumps({"checkpoint": checkpoint.name, "metric": metric, "value": value}), encoding="utf-8")
    _flush(writing)
    writing.replace(root / "best.json")


def prune_checkpoints(root: Path, keep_last: int) -> None:
    """Delete all but the last `keep_last` and the best, and what interrupted saves left behind."""
    best = best_checkpoint(root)
    for folder in sorted(root.glob("step_*"))[:-keep_last]:
        if folder != best:
            # Renamed first, so that a crash within never leaves half a folder under a checkpoint's name.
            shutil.rmtree(folder.rename(root / f".deleting_{folder.name}"))
    for leftover in (*root.glob(".writing_step_*"), *root.glob(".deleting_*")):
        shutil.rmtree(leftover, ignore_errors=True)


def _stored(tensors: Tensors) -> Tensors:
    """As a file needs them: row-major copies, so that weights under two names are no shared memory.

    Loading copies them back into whatever layout the weight has.
    """
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
