"""The batch that the network is tried on: training images with annotations, no larger than the time allows."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from heads.contract import IGNORED
from tasks.checking.clock import Clock
from tasks.checking.looks import spread
from tasks.checking.subject import Subject
from tasks.config import DataConfig
from tasks.data.batches import collate
from tasks.data.dataset import Dataset
from tasks.data.evaluated_size import evaluated_part
from tasks.data.sample import Batch, Sample, SampleKey

IMAGES, WITH_BOXES = 4, 2  # of the batch, at most; detectors take much time for each
TRIES = 60  # images that are looked through for annotated ones
CANDIDATES = 12


def passed_at_once(subject: Subject) -> int:
    """Images of a forward pass in training."""
    return max(1, subject.config.data.batch_size // subject.config.runner.accumulate)


def make_batch(subject: Subject, divisor: int, side: int, clock: Clock) -> Batch | None:
    """A batch of a few annotated training images as training changes them, of at most `side` pixels.

    For boxes and masks, parts of that size are cut from larger images, so that objects keep their size; images with
    labels shrink.

    Args:
        subject: whose training images are taken.
        divisor: of the network.
        side: largest height and width in pixels.
        clock: until its end, better images are looked for than the first ones.
    """
    count = min(WITH_BOXES if subject.wanted.boxes else IMAGES, passed_at_once(subject))
    data = _limited(subject, side)
    dataset = Dataset(
        subject.train,
        data,
        subject.config.image,
        seed=subject.config.runner.seed,
        training=True,
        wanted=subject.wanted,
    )
    usable = {look.index for look in subject.looks.of("train")}
    indices = [index for index in spread(len(subject.train), TRIES) if index in usable]
    chosen: list[tuple[float, Sample]] = []
    for epoch, index in product(range(3), indices):
        sample = dataset[SampleKey(index, epoch)]
        weight = _annotated(sample, subject)
        if weight > 0:
            chosen.append((weight, sample))
        if len(chosen) >= CANDIDATES or (len(chosen) >= count and not clock.left()):
            break
    if not chosen:
        return None
    samples = _varied([sample for _, sample in sorted(chosen, key=lambda pair: -pair[0])], count)
    return collate(samples, divisor)


def _varied(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Of samples in order, `count` that differ in their labels where they have any."""
    first: dict[object, list[Sample]] = {}
    for sample in samples:
        key = None if sample.image_labels is None else tuple(sample.image_labels.tolist())
        first.setdefault(key, []).append(sample)
    rounds = max(map(len, first.values()))
    turn = [group[number] for number in range(rounds) for group in first.values() if number < len(group)]
    return turn[:count]


def _annotated(sample: Sample, subject: Subject) -> float:
    """How much there is to learn from a sample; 0 is nothing."""
    if subject.wanted.boxes:
        return float((~sample.crowd).sum())
    if sample.masks is not None:
        inside = (sample.masks != 0) & (sample.masks != IGNORED)
        return min(float(inside.mean()), 1 - float(inside.mean()))
    return float(sample.image_labels is not None and len(sample.image_labels) > 0)


def _limited(subject: Subject, side: int) -> DataConfig:
    """The data section with images of at most `side` pixels."""
    data = subject.config.data.model_copy(deep=True)
    augment = data.augment
    augment.mixup = augment.cutmix = augment.mosaic = augment.copy_paste = 0.0
    if subject.wanted.boxes or subject.wanted.masks:
        augment.scale_jitter = None
        height, width = augment.crop or _largest(subject, data)
        if height > side or width > side:
            augment.crop = (min(height, side), min(width, side))
        return data
    for field in ("size", "center_crop"):
        size = getattr(data, field)
        if size is not None and max(size) > side:
            setattr(data, field, tuple(max(1, round(length * side / max(size))) for length in size))
    if data.size is not None and data.center_crop is not None:
        data.size = (max(data.size[0], data.center_crop[0]), max(data.size[1], data.center_crop[1]))
    if data.long_side > side:
        data.short_side = tuple(min(short, side) for short in data.short_side)
        data.long_side = side
    if augment.crop is not None:
        augment.crop = (min(augment.crop[0], side), min(augment.crop[1], side))
    return data


def _largest(subject: Subject, data: DataConfig) -> tuple[int, int]:
    """Largest height and width of the training images that were looked at, as they are resized."""
    sizes = [evaluated_part(look.size, data)[0] for look in subject.looks.of("train")]
    height, width = np.max(sizes, axis=0).tolist() if sizes else (0, 0)
    return height, width
