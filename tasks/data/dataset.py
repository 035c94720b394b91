"""Annotated images as samples: read, resize, augment."""

import numpy as np

from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.augment import Annotated, Augmentation, clip, resize, resized_size
from tasks.data.image_file import read_image
from tasks.data.sample import Sample, SampleKey
from tasks.image_spec import ImageSpec
from tasks.seeding import derive_seed


class Dataset:
    """The images of a split; a sample is a pure function of its key, the seed and the config.

    Args:
        annotations: the split.
        config: how images are resized and changed.
        spec: channels and bit depth.
        seed: of all random changes.
        training: change images at random; otherwise they are only resized, to the last of the short sides.
        masks: give samples their instance masks (the split must have been read with them).
    """

    def __init__(
        self,
        annotations: Annotations,
        config: DataConfig,
        spec: ImageSpec,
        *,
        seed: int = 0,
        training: bool,
        masks: bool = False,
    ) -> None:
        self.annotations, self.config, self.spec = annotations, config, spec
        self.seed, self.training, self.masks = seed, training, masks
        self._augment = Augmentation(config.augment, config.short_side, config.long_side)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: SampleKey) -> Sample:
        """One sample.

        Raises:
            UserError: the image cannot be used; see `read_image`.
        """
        annotations, index = self.annotations, key.index
        file, image_id = annotations.file(index), annotations.image_id(index)
        seed = derive_seed(self.seed, "sample", key.epoch, image_id)
        image = read_image(file, self.spec, annotations.size(index), self.config.exif)
        size = (image.shape[0], image.shape[1])
        objects = annotations.objects(index)
        masks = annotations.masks(index, size) if self.masks else None
        item = Annotated(image, objects.boxes, np.arange(len(objects.boxes)), masks)
        clip(item)
        if self.training:
            self._augment(item, seed)
        else:
            resize(item, resized_size(size, self.config.short_side[-1], self.config.long_side))
        clip(item)
        return Sample(
            image=item.image,
            image_id=image_id,
            file=str(file),
            seed=seed,
            original_size=size,
            boxes=item.boxes.astype(np.float32),
            labels=objects.labels[item.rows],
            crowd=objects.crowd[item.rows],
            masks=item.masks,
        )
