"""A sample joined with others drawn from the whole split: mixup and CutMix, mosaic, copy-paste.

Partners are drawn from the split, so that neither the batch nor the process decides which they are; they are read and
changed at random as any sample is.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tasks.config import AugmentConfig, DataConfig
from tasks.data.annotations import Annotations
from tasks.data.augmentation.augment import fill_of
from tasks.data.augmentation.copy_paste import bring_to_size, choose_objects, copy_paste
from tasks.data.augmentation.geometry import Annotated, clip
from tasks.data.augmentation.mixing import mix, mixes
from tasks.data.augmentation.mosaic import IMAGES, mosaic
from tasks.data.balance import sampling_weights
from tasks.data.evaluated_size import uses_antialias
from tasks.data.sample import Sample
from tasks.data.wanted import Wanted
from tasks.image_spec import ImageSpec
from tasks.seeding import derive_seed


def combines(config: AugmentConfig) -> bool:
    """Whether samples are joined with others at all."""
    return bool(mixes(config) or config.mosaic or config.copy_paste)


class Combination:
    """What joins samples with partners; everything it draws depends on the sample's seed alone.

    Args:
        annotations: the split that partners come from.
        config: which combinations, how often.
        spec: of the images.
        wanted: the targets that samples bring.
        read: the sample of an index and a seed, by itself.
        mosaic_until: epochs, from the first, with mosaic; None: all.
    """

    def __init__(
        self,
        annotations: Annotations,
        config: DataConfig,
        spec: ImageSpec,
        wanted: Wanted,
        read: Callable[[int, int], Sample],
        mosaic_until: int | None = None,
    ) -> None:
        self.config, self.wanted, self.count = config.augment, wanted, len(annotations)
        self.mosaic_until = mosaic_until
        self._read, self._fill, self._antialias = read, fill_of(spec), uses_antialias(config)
        # Partners are drawn from all images as often as these are.
        weights = sampling_weights(annotations, config.balance)
        self._cumulated = None if weights is None else np.cumsum(weights)

    def __call__(self, sample: Sample, epoch: int) -> None:
        """Change `sample` in place."""
        if self.config.mosaic and (self.mosaic_until is None or epoch < self.mosaic_until):
            self._mosaic(sample)
        if self.config.copy_paste:
            self._paste(sample)
        if self.wanted.labels is not None and mixes(self.config):
            self._mix(sample)

    def _mosaic(self, sample: Sample) -> None:
        random = np.random.default_rng(derive_seed(sample.seed, "mosaic"))
        joined, at = random.random() < self.config.mosaic, random.random(IMAGES - 1)
        if not joined:
            return
        others = [
            self._read(self._partner(share), derive_seed(sample.seed, "mosaic", number))
            for number, share in enumerate(at.tolist())
        ]
        samples = [sample, *others]
        parts = _annotated(samples)
        _take(sample, mosaic(parts, self.config.mosaic_scale, self._fill, self._antialias, random), samples)

    def _paste(self, sample: Sample) -> None:
        random = np.random.default_rng(derive_seed(sample.seed, "copy_paste"))
        pasted, at = random.random() < self.config.copy_paste, random.random()
        if not pasted:
            return
        other = self._read(self._partner(at), derive_seed(sample.seed, "copy_paste", "partner"))
        below, upon = _annotated([sample, other])
        bring_to_size(upon, below.size, self._fill, random)
        # Of an object without an outline nobody knows which pixels are its own, and a crowd is none.
        assert other.outlined is not None
        rows = upon.rows - len(sample.labels)
        chosen = choose_objects(other.outlined[rows] & ~other.crowd[rows], random)
        if len(chosen):
            _take(sample, copy_paste(below, upon, chosen), [sample, other])

    def _mix(self, sample: Sample) -> None:
        random, config = np.random.default_rng(derive_seed(sample.seed, "mix")), self.config
        mixed, at = random.random() < config.mix_probability, random.random()
        if not mixed or sample.image_labels is None or not len(sample.image_labels):
            return
        other = self._read(self._partner(at), derive_seed(sample.seed, "partner"))
        if other.image_labels is None or not len(other.image_labels):
            return
        sample.file = _files([sample, other])
        sample.image, share = mix(sample.image, other.image, config, random)
        sample.image_labels = np.float32(share) * sample.image_labels + np.float32(1 - share) * other.image_labels

    def _partner(self, at: float) -> int:
        """The image at a share of the split, 0 up to 1."""
        if self._cumulated is None:
            return int(at * self.count)
        return min(int(np.searchsorted(self._cumulated, at * self._cumulated[-1], side="right")), self.count - 1)


def _annotated(samples: Sequence[Sample]) -> list[Annotated]:
    """The samples' images and objects, whose rows count through all samples."""
    ends = np.cumsum([0, *(len(sample.labels) for sample in samples)]).tolist()
    return [
        Annotated(
            sample.image,
            sample.boxes.astype(np.float64),
            np.arange(first, first + len(sample.labels)),
            sample.outlines,
            sample.masks,
        )
        for first, sample in zip(ends, samples, strict=False)
    ]


def _take(sample: Sample, item: Annotated, samples: Sequence[Sample]) -> None:
    """Make `sample` show `item`, whose rows count through `samples`."""
    clip(item)
    sample.file = _files(samples)
    sample.image, sample.outlines, sample.masks = item.image, item.outlines, item.masks
    sample.boxes = item.boxes.astype(np.float32)
    sample.labels = np.concatenate([each.labels for each in samples])[item.rows]
    sample.crowd = np.concatenate([each.crowd for each in samples])[item.rows]
    known = [each.outlined for each in samples if each.outlined is not None]
    sample.outlined = np.concatenate(known)[item.rows] if known else None


def _files(samples: Sequence[Sample]) -> str:
    """Of all, so that a message can name whichever is at fault."""
    first, *others = (sample.file for sample in samples)
    return f"{first} joined with {' and '.join(others)}"
