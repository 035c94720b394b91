"""What reads and prepares a folder of images for training, by name: each call loads all of them once.

All decode, resize to 512 x 512, flip half of the images, change brightness, contrast and saturation by up to a quarter,
and take the boxes along. Ours averages pixels where an image shrinks, as torchvision's transforms do, or samples them,
as our detectors and albumentations do. It leaves the normalisation to the device that trains; the others do it here, as
their users' scripts do.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from tasks.benchmark.choice import OURS
from tasks.config import AugmentConfig, DataConfig
from tasks.data.annotations import Annotations
from tasks.data.loader import TrainingLoader
from tasks.data.splits import open_splits
from tasks.image_spec import ImageSpec

SIDE, BATCH = 512, 8
COLOUR = 0.5  # ours; a factor of 1 +- half of it
Sample = tuple[Any, Any, Any]  # image, boxes, labels


def loading_contestants(folder: Path, workers: int) -> dict[str, Callable[[], int]]:
    """Loaders of a COCO or Pascal VOC folder, ours first; each returns how many images it has loaded.

    Args:
        folder: of the data.
        workers: processes that load; they live on from call to call.

    Raises:
        UserError: there is no data.
    """
    augment = AugmentConfig(horizontal_flip=0.5, colour=COLOUR)
    config = DataConfig(root=folder, batch_size=BATCH, size=(SIDE, SIDE), workers=workers, augment=augment)
    train, _, _ = open_splits(config, seed=0)
    return {
        OURS: _our_loader(train, config),
        f"{OURS} sampling": _our_loader(train, config.model_copy(update={"antialias": False})),
        "albumentations with cv2": _plain_loader(Albumented(train), workers),
        "torchvision with PIL": _plain_loader(Transformed(train), workers),
    }


def _our_loader(train: Annotations, config: DataConfig) -> Callable[[], int]:
    loader = TrainingLoader(train, config, ImageSpec(), seed=0, divisor=32)
    return lambda: sum(len(batch) for passes in loader.steps(0) for batch in passes)


class Albumented(torch.utils.data.Dataset[Sample]):
    """As scripts with albumentations have it."""

    def __init__(self, annotations: Annotations) -> None:
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
        import albumentations as A
        from albumentations.pytorch import ToTensorV2

        self.annotations, spread = annotations, (1 - COLOUR / 2, 1 + COLOUR / 2)
        self.change = A.Compose(
            [
                A.Resize(SIDE, SIDE),
                A.HorizontalFlip(p=0.5),
                A.ColorJitter(brightness=spread, contrast=spread, saturation=spread, hue=(0, 0), p=1.0),
                A.Normalize(ImageSpec().mean, ImageSpec().std),
                ToTensorV2(),
            ],
            bbox_params=A.BboxParams(format="pascal_voc", label_fields=["labels"]),
        )

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Sample:
        objects = self.annotations.objects(index)
        stored = cv2.imread(str(self.annotations.root / self.annotations.file(index)))
        assert stored is not None
        image = cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)
        changed = self.change(image=image, bboxes=objects.boxes, labels=objects.labels)
        return changed["image"], torch.as_tensor(np.asarray(changed["bboxes"])), torch.as_tensor(changed["labels"])


class Transformed(torch.utils.data.Dataset[Sample]):
    """As torchvision's references have it, by the second version of its transforms."""

    def __init__(self, annotations: Annotations) -> None:
        self.annotations, spread = annotations, (1 - COLOUR / 2, 1 + COLOUR / 2)
        self.change = v2.Compose(
            [
                v2.PILToTensor(),
                v2.Resize((SIDE, SIDE), antialias=True),
                v2.RandomHorizontalFlip(0.5),
                v2.ColorJitter(spread, spread, spread),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(list(ImageSpec().mean), list(ImageSpec().std)),
            ]
        )

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Sample:
        objects = self.annotations.objects(index)
        image = Image.open(self.annotations.root / self.annotations.file(index)).convert("RGB")
        size = (image.height, image.width)
        boxes = tv_tensors.BoundingBoxes(objects.boxes, format="XYXY", canvas_size=size)
        changed: Sample = self.change(image, boxes, torch.as_tensor(objects.labels))
        return changed


def _plain_loader(dataset: "torch.utils.data.Dataset[Sample]", workers: int) -> Callable[[], int]:
    loader = DataLoader(
        dataset,
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        collate_fn=_stack,
        drop_last=True,  # as ours
        persistent_workers=workers > 0,
    )
    return lambda: sum(len(images) for images, _ in loader)


def _stack(samples: list[Sample]) -> tuple[torch.Tensor, list[Any]]:
    return torch.stack([image for image, _, _ in samples]), [rest for _, *rest in samples]
