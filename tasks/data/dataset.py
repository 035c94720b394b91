"""Annotated images as samples: read, resize, augment, mix."""

import numpy as np
import numpy.typing as npt

from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.augmentation.augment import Augmentation, fit_for_evaluation
from tasks.data.augmentation.geometry import Annotated, clip
from tasks.data.augmentation.mixing import mix, mixes
from tasks.data.balance import sampling_weights
from tasks.data.sample import Sample, SampleKey
from tasks.data.semantic import semantic_masks
from tasks.data.wanted import Wanted
from tasks.image_spec import ImageSpec
from tasks.seeding import derive_seed

Floats = npt.NDArray[np.float32]


class Dataset:
    """The images of a split; a sample is a pure function of its key, the seed and the config.

    Args:
        annotations: the split.
        config: how images are resized and changed.
        spec: channels and bit depth.
        seed: of all random changes.
        training: change images at random; otherwise they are only resized, to the last of the short sides.
        wanted: the targets that samples bring (the split must have been read with them).
    """

    def __init__(
        self,
        annotations: Annotations,
        config: DataConfig,
        spec: ImageSpec,
        *,
        seed: int = 0,
        training: bool,
        wanted: Wanted | None = None,
    ) -> None:
        self.annotations, self.config, self.spec = annotations, config, spec
        self.seed, self.training, self.wanted = seed, training, wanted or Wanted()
        self._augment = Augmentation(config, spec)
        self._mixes = training and self.wanted.labels is not None and mixes(config.augment)
        # Partners are drawn from all images as often as these are.
        weights = sampling_weights(annotations, config.balance) if self._mixes else None
        self._cumulated = None if weights is None else np.cumsum(weights)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: SampleKey) -> Sample:
        """One sample.

        Raises:
            UserError: the image cannot be used; see `read_image`.
        """
        # The first time in an epoch as it has always been; a repeated image changes otherwise.
        time = (key.epoch,) if not key.repeat else (key.epoch, "repeat", key.repeat)
        seed = derive_seed(self.seed, "sample", *time, self.annotations.image_id(key.index))
        sample = self._read(key.index, seed)
        if self._mixes:
            self._mix(sample)
        return sample

    def _read(self, index: int, seed: int) -> Sample:
        annotations, wanted = self.annotations, self.wanted
        image = annotations.image(index, self.spec, self.config.exif)
        size = (image.shape[0], image.shape[1])
        objects = annotations.objects(index)
        outlines = annotations.masks(index, size) if wanted.outlines else None
        masks = semantic_masks(annotations, index, size, wanted.masks == "each") if wanted.masks else None
        item = Annotated(image, objects.boxes, np.arange(len(objects.boxes)), outlines, masks)
        clip(item)
        if self.training:
            self._augment(item, seed)
        else:
            fit_for_evaluation(item, self.config)
        clip(item)
        return Sample(
            image=item.image,
            image_id=annotations.image_id(index),
            file=annotations.describe(index),
            seed=seed,
            original_size=size,
            boxes=item.boxes.astype(np.float32),
            labels=objects.labels[item.rows],
            crowd=objects.crowd[item.rows],
            outlines=item.outlines,
            image_labels=label_values(annotations, index) if wanted.labels else None,
            masks=item.masks,
            outlined=annotations.outlined(index)[item.rows] if wanted.outlines else None,
        )

    def _mix(self, sample: Sample) -> None:
        """Mix with an image drawn from the whole split, so that neither the batch nor the process decides."""
        random, config = np.random.default_rng(derive_seed(sample.seed, "mix")), self.config.augment
        mixed, at = random.random() < config.mix_probability, random.random()
        if not mixed or sample.image_labels is None or not len(sample.image_labels):
            return
        index = int(at * len(self))
        if self._cumulated is not None:
            index = min(int(np.searchsorted(self._cumulated, at * self._cumulated[-1], side="right")), len(self) - 1)
        other = self._read(index, derive_seed(sample.seed, "partner"))
        if other.image_labels is None or not len(other.image_labels):
            return
        sample.image, share = mix(sample.image, other.image, config, random)
        sample.image_labels = np.float32(share) * sample.image_labels + np.float32(1 - share) * other.image_labels


def label_values(annotations: Annotations, index: int) -> Floats:
    """(K,) float32 of an image as a row of `heads.contract.LabelTargets.values`; empty if nothing is known."""
    if annotations.image_labels is None:
        return np.zeros(0, np.float32)
    own = annotations.image_labels[index].numpy()
    if own.ndim:
        return np.zeros(0, np.float32) if np.isnan(own).any() else own.astype(np.float32)
    if own < 0:
        return np.zeros(0, np.float32)
    values = np.zeros(len(annotations.label_map), np.float32)
    values[own] = 1
    return values
