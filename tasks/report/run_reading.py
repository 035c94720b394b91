"""What a run folder says of its run, however far that came."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from backbones.errors import UserError
from tasks.checkpoint import best_checkpoint, latest_checkpoint
from tasks.config import Experiment
from tasks.experiment_file import explain, read_experiment
from tasks.head_choice import learning_heads
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
    config, starts = read_experiment(folder.config).experiment, whole_lines(folder.starts)
    if starts:  # a run may be resumed with other settings than it began with
        try:
            config = Experiment.model_validate(starts[-1].get("config"))
        except ValidationError as error:
            raise UserError(f"{folder.starts}: its last line holds no config ({explain(error)})") from None
    records = folder.records()
    return Run(
        folder,
        config,
        [record for record in records if "loss" in record],
        [record for record in records if "metrics" in record],
        starts,
        read_results(folder, config),
    )


def read_results(folder: RunFolder, config: Experiment) -> dict[str, ImageResults]:
    """The results by head, in the order of the config, that the run folder holds.

    Raises:
        UserError: a file is damaged.
    """
    files = {name: folder.results / f"{name}.safetensors" for name in result_names(config)}
    return {name: ImageResults.load(file) for name, file in files.items() if file.exists()}


def result_names(config: Experiment) -> list[str]:
    """What the metrics and results of each head that learns are called; of several data sets, also by theirs."""
    learning = learning_heads(config)
    fed = {
        source: [head for head in learning if not section.heads or head in section.heads]
        for source, section in config.data.sources.items()
    } or {"": list(learning)}
    heads = [head for own in fed.values() for head in own]
    return [
        f"{head}@{source}" if heads.count(head) > 1 else head
        for head in dict.fromkeys(heads)
        for source, own in fed.items()
        if head in own
    ]


def data_at(config: Experiment, root: Path | None) -> Experiment:
    """The experiment with its data in another place, if one is given.

    Raises:
        UserError: its data lie in several places.
    """
    moved = config.model_copy(deep=True)
    if root is not None:
        if config.data.sources:
            raise UserError(f"data is {root}, but the run has several data sets; expected one: leave --data out")
        moved.data.root = root
    return moved
