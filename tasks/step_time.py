"""How long a training step takes at least, measured without changing anything."""

import time

import torch
from accelerate.accelerator import Accelerator

from tasks.data.sample import Batch
from tasks.model import Model

PASSES = 2  # a backward pass takes about as long as two forward ones; frozen stages spare some of it
SLOW = 1.0  # seconds, from which on a warm-up would take longer than it is worth


class StepTime:
    """Times the predictions of a model, which leave weights, statistics and random numbers as they are.

    Args:
        model: moved to the accelerator's device; left in evaluation mode.
        accelerator: device and precision.
    """

    def __init__(self, model: Model, accelerator: Accelerator) -> None:
        self.model, self.accelerator = model, accelerator

    def __call__(self, batch: Batch, images: int) -> float:
        """Seconds of a forward and a backward pass over so many images like those of `batch`."""
        device = self.accelerator.device
        # A CPU takes as long for each image; a GPU needs all of them at once to be filled.
        count = 1 if device.type == "cpu" else images
        batch = batch.take(torch.arange(count) % len(batch)).to(device)
        self.model.to(device).to(memory_format=torch.channels_last).eval()
        seconds = self._predict(batch)
        if seconds < SLOW:  # the first time pays for what is made once
            seconds = min(self._predict(batch) for _ in range(2))
        return PASSES * seconds * images / count

    def _predict(self, batch: Batch) -> float:
        start = time.perf_counter()
        with torch.inference_mode(), self.accelerator.autocast():
            self.model.predict(batch)
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        elif self.accelerator.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter() - start
