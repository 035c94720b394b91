"""The lines of metrics.jsonl while a run trains: losses, rates, what it cost, and how long it waited for data."""

import math
import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from tasks.cost import CostMeter
from tasks.data.sample import Batch
from tasks.run_folder import RunFolder
from tasks.stepper import Stepper
from tasks.tensorboard import EventLog


class RunLog:
    """Writes the log of a run, and TensorBoard events where they are asked for, in the main process.

    Args:
        folder: of the run.
        stepper: whose steps are logged.
    """

    def __init__(self, folder: RunFolder, stepper: Stepper) -> None:
        self._folder, self._stepper = folder, stepper
        self._main = stepper.accelerator.is_main_process
        wanted = stepper.config.runner.tensorboard and self._main
        self._events = EventLog(folder.tensorboard, stepper.step) if wanted else None
        self._meter = CostMeter(stepper.accelerator.device)
        self._start_clock()

    def timed(self, steps: Iterator[list[Batch]]) -> Iterator[list[Batch]]:
        """The same steps; their images are counted, and how long the loop waited for them."""
        self._start_clock()
        while True:
            asked = time.monotonic()
            passes = next(steps, None)
            self._waited += time.monotonic() - asked
            if passes is None:
                return
            self._images += sum(map(len, passes)) * self._stepper.accelerator.num_processes
            yield passes

    def log_steps(self, epoch: int) -> dict[str, Any]:
        """Write a line about the steps since the last one and return it; `epoch` is counted from 0."""
        stepper, seconds = self._stepper, time.monotonic() - self._clock
        losses = stepper.watch.means()
        record = {
            "step": stepper.step,
            "epoch": epoch + 1,
            "loss": sum(losses.values()),
            "lr": max(group["lr"] for group in stepper.optimizer.param_groups),
            "images_per_second": self._images / seconds,
            "data_wait": self._waited / seconds,
            "gradient_norm": _finite(stepper.gradient_norm),
            "losses": losses,
        }
        if stepper.config.losses.learned and stepper.bare.loss_weights is not None:
            record["loss_weights"] = stepper.bare.loss_weights.current()
        self.log(record)
        self._start_clock()
        return record

    def log(self, record: dict[str, Any]) -> None:
        """Write a line, with what the run has cost so far."""
        if self._main:
            record["cost"] = self._meter.read()
            self._folder.log(record)
            if self._events:
                self._events.write(record)

    def _start_clock(self) -> None:
        self._clock, self._waited, self._images = time.monotonic(), 0.0, 0


def _finite(value: Tensor) -> float | None:
    """A number for json, which has no infinity: fp16 gradients overflow now and then, and such a step is left out."""
    number = float(value)
    return number if math.isfinite(number) else None
