"""A trained run, or the runs of a cross-validation together, as an engine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from tasks.checkpoint import load_checkpoint
from tasks.config import HeadConfig, InferenceConfig
from tasks.data.files.image_file import Pixels
from tasks.kinds import reads_outlines, task_of
from tasks.label_map import LabelMap
from tasks.predicting import accelerator_for, batch_of, fold_runs, load_predictor
from tasks.prediction.description import HeadDescription, ModelDescription
from tasks.prediction.engine import Engine
from tasks.prediction.found import Found
from tasks.prediction.from_torch import found_in


class RunEngine(Engine):
    """The best checkpoint of a run; of a cross-validation, the last ones of all its runs, averaged.

    Args:
        run: a run folder, a checkpoint, or the folder of a cross-validation.
        device: auto, cuda, mps or cpu.
        only: heads to predict with; empty: all.
        precision: fp32, or None for that in which the run was evaluated.
        padded: height and width that batches are padded to; None: the least that will do.
        plain: see each image once, whatever the section `inference` of the config says.

    Attributes:
        folds: how many runs there are, 0 unless it is a cross-validation.

    Raises:
        UserError: there is no checkpoint, or it cannot be used here.
    """

    def __init__(
        self,
        run: Path,
        device: str = "auto",
        only: Sequence[str] = (),
        *,
        precision: Literal["fp32"] | None = None,
        padded: tuple[int, int] | None = None,
        plain: bool = False,
    ) -> None:
        folds = fold_runs(run)
        # The folds' last checkpoints are those that the out-of-fold metrics are of.
        checkpoints = [load_checkpoint(folder, prefer_best=not folds).keep(only) for folder in folds or [run]]
        self.folds = len(folds)
        self.config = checkpoints[0].config
        if precision is not None:
            self.config.runner.precision = precision
        self._padded = padded
        self._accelerator = accelerator_for(self.config, device)
        self._predictor, divisor = load_predictor(checkpoints, self._accelerator, InferenceConfig() if plain else None)
        self.description = ModelDescription(
            name=self.config.name,
            heads={name: describe_head(head, checkpoints[0].labels[name]) for name, head in self.config.heads.items()},
            image=self.config.image,
            data=self.config.data,
            divisor=divisor,
        )

    def notes(self) -> list[str]:
        """How many models work together."""
        return [f"{self.folds} of the {self.config.data.folds} models together"] if self.folds else []

    def predict(self, images: Sequence[Pixels]) -> list[Mapping[str, Found]]:
        """See `Engine`."""
        batch = batch_of(images, self.config.data, self.description.divisor, self._padded).to(self._accelerator.device)
        with torch.inference_mode(), self._accelerator.autocast():
            found = self._predictor(batch)
        return [{name: found_in(own[row]) for name, own in found.items()} for row in range(len(images))]


def describe_head(head: HeadConfig, labels: LabelMap) -> HeadDescription:
    """What a head of a config gives."""
    options = head.factory_options()
    return HeadDescription(
        kind=task_of(head).reads,
        labels=labels,
        target=str(options.get("target", "")),
        background=bool(options.get("background", True)),
        threshold=float(options.get("threshold", 0.5)),
        instances=reads_outlines(head),
    )
