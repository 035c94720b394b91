"""How long a planned training takes at least, on this machine."""

import numpy as np

from tasks.config import DataConfig, Experiment
from tasks.device import build_accelerator, describe
from tasks.label_map import LabelMap
from tasks.model import build_model
from tasks.optim import count_steps
from tasks.predicting import batch_of
from tasks.report.numbers import duration
from tasks.step_time import StepTime

LONG = 30 * 60  # seconds, from which on a shorter first try is told


def training_time(config: Experiment, classes: int, images: int) -> str:
    """A sentence: how many steps, how long they take, and how a first try is made shorter.

    Args:
        config: of one head; neither its data nor its weights are read.
        classes: that the head tells apart.
        images: to train on.
    """
    head = next(iter(config.heads))
    labels = LabelMap(ids=tuple(range(classes)), names=tuple(map(str, range(classes))))
    model, accelerator = build_model(config, {head: labels}), build_accelerator(config.runner)
    data = config.data
    height, width = data.augment.crop or data.size or (data.short_side[0], data.long_side or data.short_side[0])
    pixels = np.zeros((height, width, config.image.stored_channels), np.uint8)
    batch = batch_of([pixels], DataConfig(size=(height, width)), model.divisor)
    each = StepTime(model, accelerator)(batch, data.batch_size)
    steps = count_steps(max(images // data.batch_size, 1), config.schedule)
    said = f"{steps:,} steps take at least {duration(steps * each)} on {describe(accelerator, config.runner)}"
    if steps * each < LONG:
        return said
    epochs = max(config.schedule.epochs // 4, 1)
    size = f"--data.size {height // 2} {width // 2}" if data.size else f"--data.short_side {data.short_side[0] // 2}"
    size += f" --data.long_side {data.long_side // 2}" if data.long_side and not data.size else ""
    smaller = "" if data.augment.crop else f", with {size} a quarter of that again"
    return f"{said}; a first try with --schedule.epochs {epochs} takes a quarter{smaller}"
