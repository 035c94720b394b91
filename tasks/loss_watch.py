"""Looks after the losses and gradients of a run: means for the log, and the first value that is not finite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from backbones.errors import UserError
from tasks.data.sample import Batch

GRADIENT = "the gradient"
"""Stands beside the losses, whose names all hold a slash."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A step whose losses are still to be looked at."""

    index: int
    names: tuple[str, ...]
    own: Tensor
    shared: Tensor
    batches: Sequence[Batch]


class NonFiniteStep(UserError):
    """A loss or the gradient of a step is not finite.

    Attributes:
        index: of the step, from 0.
        broken: names of the losses, or `GRADIENT`; empty where they are another process's.
        batches: what this process was given in that step.
    """

    def __init__(self, index: int, broken: list[str], batches: Sequence[Batch]) -> None:
        names = ", ".join(broken)
        files = ", ".join(file for batch in batches for file in batch.files)
        super().__init__(
            f"{names} is not finite at step {index + 1}; its images are {files}"
            if broken
            else f"a loss of another process is not finite at step {index + 1}; that process tells more"
        )
        self.index, self.broken, self.batches = index, broken, batches


class LossWatch:
    """Adds up losses on the device, over all processes, and checks each step.

    On a CPU the check is immediate. Elsewhere it lags one step behind, so that the host never waits for the step it
    has just queued; `spoiled` is known on the device at once, for an optimizer to leave the weights as they are.

    Args:
        saved: what `tensors` gave when the run was saved, to go on with its means; empty starts anew.

    Attributes:
        spoiled: float32 scalar on the device, 1 from the first step on that is not finite, else 0; None before any.
    """

    def __init__(self, saved: Mapping[str, Tensor] | None = None) -> None:
        self._sums = dict(saved or {})
        self._steps = int(self._sums.pop("steps", 0))
        self._passes: dict[str, Tensor] = {}
        self._unchecked: _Step | None = None
        self.spoiled: Tensor | None = None

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Take in the losses of one pass of a step, already weighted by its share of the step's images."""
        for name, loss in losses.items():
            value = loss.detach().float()
            self._passes[name] = self._passes[name] + value if name in self._passes else value

    def check_step(self, index: int, batches: Sequence[Batch], gradient_norm: Tensor | None = None) -> None:
        """Close a step: check its losses, now or on other devices than the CPU when the next step is closed.

        Args:
            index: of the step, from 0.
            batches: of this process.
            gradient_norm: scalar, of all gradients together, equal in all processes; None leaves it unchecked.

        Raises:
            NonFiniteStep: a loss is not finite in some process. All processes stop alike, so that none goes on to
                save spoiled weights.
        """
        losses, self._passes = self._passes, {}
        looked_at = losses if gradient_norm is None else {**losses, GRADIENT: gradient_norm.detach().float()}
        own = torch.stack(list(looked_at.values()))
        shared = own
        if distributed.is_available() and distributed.is_initialized():
            shared = own.clone()
            distributed.all_reduce(shared)
            shared /= distributed.get_world_size()
        self._sums = {
            name: self._sums[name].to(value.device) + value if name in self._sums else value
            for name, value in zip(losses, shared[: len(losses)].unbind(), strict=True)
        }
        self._steps += 1
        bad = (~torch.isfinite(shared)).any().float()
        self.spoiled = bad if self.spoiled is None else torch.maximum(self.spoiled, bad)
        self.check()
        self._unchecked = _Step(index, tuple(looked_at), own, shared, batches)
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
        finite = torch.isfinite(step.own).tolist()
        broken = [name for name, fine in zip(step.names, finite, strict=True) if not fine]
        losses = [name for name in broken if name != GRADIENT]
        # A gradient is never finite where a loss is not, so only the loss is named.
        raise NonFiniteStep(step.index, losses or broken, step.batches)
