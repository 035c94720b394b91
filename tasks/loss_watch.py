"""Looks after the losses of a run: means for the log, and the first value that is not finite."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from backbones.errors import UserError
from tasks.data.sample import Batch


class LossWatch:
    """Adds up losses on the device and checks each step's total.

    On a CPU the check is immediate. Elsewhere it lags one step behind, so that the host never waits for the step it
    has just queued.

    Args:
        run: folder under which an offending batch is saved.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.sums: dict[str, Tensor] = {}
        self.steps = 0
        self._unchecked: tuple[int, Tensor, Sequence[Batch]] | None = None

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Take in the losses of one pass of a step, already weighted by its share of the step's images."""
        for name, loss in losses.items():
            value = loss.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def check_step(self, step: int, batches: Sequence[Batch]) -> None:
        """Close a step: check its losses, now or on other devices than the CPU when the next step is closed.

        Raises:
            UserError: a loss is not finite; the batches are saved, and their images named.
        """
        self.steps += 1
        total = torch.stack(list(self.sums.values())).sum()
        self.check()
        self._unchecked = (step, total, batches)
        if total.device.type == "cpu":
            self.check()

    def check(self) -> None:
        """Check the step that is still unchecked, if any. Raises as `check_step`."""
        if self._unchecked is not None:
            step, total, batches = self._unchecked
            self._unchecked = None
            self._check(step, total, batches)

    def means(self) -> dict[str, Tensor]:
        """Mean of each loss over the steps since the last call, still on the device."""
        means = {name: total / self.steps for name, total in self.sums.items()}
        self.sums, self.steps = {}, 0
        return means

    def _check(self, step: int, total: Tensor, batches: Sequence[Batch]) -> None:
        if torch.isfinite(total):
            return
        folder = self.run / f"nonfinite_step_{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        for index, batch in enumerate(batches):
            tensors = {"images": batch.images, "valid": batch.sizes.valid, "original": batch.sizes.original}
            if batch.targets.boxes is not None:
                tensors |= {"boxes": batch.targets.boxes.boxes, "labels": batch.targets.boxes.labels}
            save_file(
                {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / f"{index}.safetensors"
            )
        files = [file for batch in batches for file in batch.files]
        broken = [name for name, total in self.sums.items() if not torch.isfinite(total)]
        (folder / "step.json").write_text(json.dumps({"step": step, "files": files, "losses": broken}, indent=1))
        raise UserError(
            f"{', '.join(broken)} is not finite at step {step}; its images are {', '.join(files)} (saved in {folder}); "
            "lower --optimizer.lr, set --optimizer.clip_grad_norm, or look at these images' annotations"
        )
