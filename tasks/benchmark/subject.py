"""Which network of ours is looked at: a workload's or a config's; small enough to be handed to another process."""

from dataclasses import dataclass
from pathlib import Path

from tasks.benchmark.arguments import BenchmarkArguments, WorkloadName
from tasks.benchmark.ours import Ours, from_config, from_workload, make_batch
from tasks.benchmark.workloads import WORKLOADS
from tasks.config import Experiment


@dataclass(frozen=True, slots=True)
class Subject:
    """A network of ours and what it is trained on.

    Attributes:
        workload: in place of a config.
        config: in place of a workload.
        root: the config's data; None is what it names.
        side: of the workload's images, pixels; None is the workload's.
    """

    workload: WorkloadName | None
    config: Path | None
    root: Path | None
    side: int | None

    @classmethod
    def named(cls, arguments: BenchmarkArguments) -> "Subject":
        """That which the arguments ask for."""
        workload = None if arguments.config else arguments.workload or "detection"
        return cls(workload, arguments.config, arguments.root, arguments.side)

    def __str__(self) -> str:
        if self.workload is None:
            return str(self.config)
        side = self.side or WORKLOADS[self.workload].side
        return f"{self.workload} at {side} x {side}"

    def build(self, images: int | None, folder: Path, checkpointing: bool | None = None) -> Ours:
        """The runner and a batch of `images`; None is as many as usual.

        Args:
            images: a batch.
            folder: to write to.
            checkpointing: compute activations of the backbone anew in the backward pass; None leaves that as it is.

        Raises:
            UserError: the config or its data cannot be used.
        """
        if self.workload is None:
            assert self.config is not None

            def change(config: Experiment) -> None:
                if checkpointing is not None:
                    config.backbone.activation_checkpointing = checkpointing

            return from_config(self.config, self.root, images, folder, change)
        work = WORKLOADS[self.workload]
        backbone = work.backbone.model_copy()
        if checkpointing is not None:
            backbone.activation_checkpointing = checkpointing
        batch = make_batch(work.head[0], images or work.batch, self.side or work.side)
        return from_workload(work.head, backbone, batch, folder)
