"""Annotated images as samples: read, resize, augment, join with others."""

from functools import partial

import numpy as np
import numpy.typing as npt

from tasks.config import DataConfig
from tasks.data.annotations import Annotations, Objects
from tasks.data.augmentation.augment import Augmentation, fit_for_evaluation, uses_reduced_decode
from tasks.data.augmentation.geometry import Annotated, clip
from tasks.data.combined import Combination, combines
from tasks.data.companion_labels import count_objects
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
        mosaic_until: epochs, from the first, with mosaic; None: all.
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
        mosaic_until: int | None = None,
    ) -> None:
        self.annotations, self.config, self.spec = annotations, config, spec
        self.seed, self.training, self.wanted = seed, training, wanted or Wanted()
        self._augment = Augmentation(config, spec)
        self._reduces = training and uses_reduced_decode(config)
        # Objects are pasted by their outlines, whether or not these are targets too.
        self._outlines = self.wanted.outlines or (training and config.augment.copy_paste > 0)
        self._combine = None
        if training and combines(config.augment):
            self._combine = Combination(annotations, config, spec, self.wanted, self._read, mosaic_until)

    def __len__(self) -> int:
        return len(self.annotations)

    def describe(self, index: int) -> str:
        """Path of an image, for messages."""
        return self.annotations.describe(index)

    def __getitem__(self, key: SampleKey) -> Sample:
        """One sample.

        Raises:
            UserError: the image cannot be used; see `read_image`.
        """
        # The first time in an epoch as it has always been; a repeated image changes otherwise.
        time = (key.epoch,) if not key.repeat else (key.epoch, "repeat", key.repeat)
        seed = derive_seed(self.seed, "sample", *time, self.annotations.image_id(key.index))
        sample = self._read(key.index, seed)
        if self._combine is not None:
            self._combine(sample, key.epoch)
        if not self.wanted.outlines:
            sample.outlines = sample.outlined = None
        return sample

    def _read(self, index: int, seed: int) -> Sample:
        annotations, wanted = self.annotations, self.wanted
        needed = partial(self._augment.needed, seed=seed) if self._reduces else None
        image, size = annotations.reduced_image(index, self.spec, self.config.exif, needed)
        objects = annotations.objects(index)
        outlines = annotations.masks(index, size) if self._outlines else None
        masks = semantic_masks(annotations, index, size, wanted.masks == "each") if wanted.masks else None
        item = Annotated(image, objects.boxes, np.arange(len(objects.boxes)), outlines, masks)
        if item.size != size:
            item.whole = size
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
            image_labels=self._image_labels(index, objects, item.rows) if wanted.labels else None,
            masks=item.masks,
            outlined=annotations.outlined(index)[item.rows] if self._outlines else None,
        )

    def _image_labels(self, index: int, objects: Objects, left: npt.NDArray[np.int64]) -> Floats:
        """(K,) of an image of which the objects `left` are left."""
        counted = self.config.count_objects
        if counted is None:
            return label_values(self.annotations, index)
        labels, crowd = objects.labels[left], objects.crowd[left]
        return count_objects(labels, crowd, len(self.annotations.label_map), counted)


def label_values(annotations: Annotations, index: int) -> Floats:
    """(K,) float32 of an image as a row of `heads.contract.LabelTargets.values`; empty if nothing is known."""
    if annotations.image_labels is None:
        return np.zeros(0, np.float32)
    own = annotations.image_labels[index].numpy()
    if own.ndim:
        return np.zeros(0, np.float32) if np.isnan(own).any() else own.astype(np.float32)
    if own < 0:
        return np.zeros(0, np.float32)
    values = np.zeros(len(annotations.label_classes), np.float32)
    values[own] = 1
    return values
