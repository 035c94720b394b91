"""What a run folder says of its run, however far that came."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import UserError
from tasks.checkpoint import best_checkpoint, latest_checkpoint
from tasks.config import Experiment
from tasks.experiment_file import read_experiment
from tasks.image_results import ImageResults
from tasks.run_folder import RunFolder, whole_lines

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run as it lies on disk.

    Attributes:
        folder: its folder.
        config: the resolved experiment.
        lines: the records of training, each of `log_every` steps.
        evaluations: the records of evaluations.
        starts: a record each time it was started or resumed; none of a run of an older version.
        results: of the best checkpoint by head, those that are there.
    """

    folder: RunFolder
    config: Experiment
    lines: Sequence[Record]
    evaluations: Sequence[Record]
    starts: Sequence[Record]
    results: dict[str, ImageResults]

    @property
    def step(self) -> int:
        """Steps that the log goes to."""
        return max((int(record["step"]) for record in (*self.lines, *self.evaluations)), default=0)

    @property
    def best_step(self) -> int | None:
        """Steps of the best checkpoint; of the latest where none was evaluated; None without any."""
        root = self.folder.checkpoints
        found = best_checkpoint(root) or latest_checkpoint(root)
        return int(found.name.removeprefix("step_")) if found else None


def read_run(path: Path) -> Run:
    """Read a run folder.

    Raises:
        UserError: it is none, or a file in it is damaged.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise UserError(f"{path}: no run there, since it has no config.json; expected the folder of a run")
    config = read_experiment(folder.config).experiment
    records = folder.records()
    return Run(
        folder,
        config,
        [record for record in records if "loss" in record],
        [record for record in records if "metrics" in record],
        whole_lines(folder.starts),
        read_results(folder, config),
    )


def read_results(folder: RunFolder, config: Experiment) -> dict[str, ImageResults]:
    """The results by head, in the order of the config, that the run folder holds.

    Raises:
        UserError: a file is damaged.
    """
    files = {head: folder.results / f"{head}.safetensors" for head in config.heads}
    return {head: ImageResults.load(file) for head, file in files.items() if file.exists()}
