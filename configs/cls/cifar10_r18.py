"""CIFAR-10 with an ImageNet ResNet-18, images enlarged to 64 px; from an `.npz` file or torchvision's CIFAR folder.

    python tools/train.py configs/cls/cifar10_r18.py --data.root cifar10.npz --backbone.weights resnet18.safetensors

The file holds `images` (N, 32, 32, 3) uint8 and `labels` (N,); a fifth of them is held out when it has no splits.
Mixup and small shifts and flips keep a network of 11 million weights from learning a few thousand images by heart.
"""

from pathlib import Path

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    ClassificationConfig,
    DataConfig,
    Experiment,
    OptimizerConfig,
    ScheduleConfig,
)


def config() -> Experiment:
    return Experiment(
        name="cifar10_r18",
        backbone=BackboneConfig(name="resnet18", weights="torchvision/resnet18"),
        heads={"labels": ClassificationConfig()},
        data=DataConfig(
            root=Path("data/cifar10"),
            size=(64, 64),
            batch_size=64,
            augment=AugmentConfig(random_resized_crop=(0.6, 1.0), mixup=0.2),
        ),
        optimizer=OptimizerConfig(name="adamw", lr=5e-4, weight_decay=0.05),
        schedule=ScheduleConfig(epochs=10, policy="cosine", warmup_steps=50),
    )
