"""Looks after the losses of a run: means for the log, and the first value that is not finite."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, distributed

from backbones.errors import UserError
from tasks.data.sample import Batch


@dataclass(frozen=True, slots=True)
class _Step:
    """A step whose losses are still to be looked at."""

    number: int
    names: tuple[str, ...]
    own: Tensor
    shared: Tensor
    batches: Sequence[Batch]


class LossWatch:
    """Adds up losses on the device, over all processes, and checks each step.

    On a CPU the check is immediate. Elsewhere it lags one step behind, so that the host never waits for the step it
    has just queued.

    Args:
        run: folder under which an offending batch is saved.
        saved: what `tensors` gave when the run was saved, to go on with its means; empty starts anew.
    """

    def __init__(self, run: Path, saved: Mapping[str, Tensor] | None = None) -> None:
        self.run = run
        self._sums = dict(saved or {})
        self._steps = int(self._sums.pop("steps", 0))
        self._passes: dict[str, Tensor] = {}
        self._unchecked: _Step | None = None

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Take in the losses of one pass of a step, already weighted by its share of the step's images."""
        for name, loss in losses.items():
            value = loss.detach().float()
            self._passes[name] = self._passes[name] + value if name in self._passes else value

    def check_step(self, step: int, batches: Sequence[Batch]) -> None:
        """Close a step: check its losses, now or on other devices than the CPU when the next step is closed.

        Raises:
            UserError: a loss is not finite in some process; the batches of that process are saved, and their images
                named. All processes stop alike, so that none goes on to save spoiled weights.
        """
        own = torch.stack(list(self._passes.values()))
        shared = own
        if distributed.is_available() and distributed.is_initialized():
            shared = own.clone()
            distributed.all_reduce(shared)
            shared /= distributed.get_world_size()
        names, self._passes = tuple(self._passes), {}
        self._sums = {
            name: self._sums[name].to(value.device) + value if name in self._sums else value
            for name, value in zip(names, shared.unbind(), strict=True)
        }
        self._steps += 1
        self.check()
        self._unchecked = _Step(step, names, own, shared, batches)
        if own.device.type == "cpu":
            self.check()

    def check(self) -> None:
        """Check the step that is still unchecked, if any. Raises as `check_step`."""
        if self._unchecked is not None:
            unchecked, self._unchecked = self._unchecked, None
            self._check(unchecked)

    def means(self) -> dict[str, float]:
        """Mean of each loss over processes and over the steps since the last call."""
        means = (torch.stack(list(self._sums.values())) / self._steps).tolist()
        named = dict(zip(self._sums, means, strict=True))
        self._sums, self._steps = {}, 0
        return named

    def tensors(self) -> dict[str, Tensor]:
        """What was added up since the last `means`, to be saved with a checkpoint."""
        return {**self._sums, "steps": torch.tensor(self._steps)}

    def _check(self, step: _Step) -> None:
        if torch.isfinite(step.shared).all():
            return
        broken = [
            name for name, finite in zip(step.names, torch.isfinite(step.own).tolist(), strict=True) if not finite
        ]
        if not broken:
            raise UserError(f"a loss of another process is not finite at step {step.number}; that process tells more")
        folder = self.run / f"nonfinite_step_{step.number:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        for index, batch in enumerate(step.batches):
            tensors = {"images": batch.images, "valid": batch.sizes.valid, "original": batch.sizes.original}
            if batch.targets.boxes is not None:
                tensors |= {"boxes": batch.targets.boxes.boxes, "labels": batch.targets.boxes.labels}
            save_file(
                {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()},
                folder / f"{index}.safetensors",
            )
        files = [file for batch in step.batches for file in batch.files]
        (folder / "step.json").write_text(json.dumps({"step": step.number, "files": files, "losses": broken}, indent=1))
        raise UserError(
            f"{', '.join(broken)} is not finite at step {step.number}; its images are {', '.join(files)} "
            f"(saved in {folder}); lower --optimizer.lr, set --optimizer.clip_grad_norm, or look at these images' "
            "annotations"
        )
