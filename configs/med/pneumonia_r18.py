"""Chest X-rays of 28 px (MedMNIST's layout), normal or pneumonia, with an ImageNet ResNet-18 at 64 px.

    python tools/train.py configs/med/pneumonia_r18.py --data.root pneumonia28.npz \\
        --backbone.weights resnet18.safetensors --data.val test

The file holds `train_images` (N, 28, 28) uint8, `train_labels`, and the same for `val` and `test`. The recipe is that
of the plain loop it is compared with, with nothing chosen on the test images. Results: see the table in README.md.
"""

from pathlib import Path

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    ClassificationConfig,
    DataConfig,
    Experiment,
    OptimizerConfig,
    RunnerConfig,
    ScheduleConfig,
)


def config() -> Experiment:
    return Experiment(
        name="pneumonia_r18",
        backbone=BackboneConfig(name="resnet18", weights="torchvision/resnet18"),
        heads={"labels": ClassificationConfig()},
        data=DataConfig(
            root=Path("data/pneumonia28.npz"),
            class_names=("normal", "pneumonia"),
            size=(64, 64),
            batch_size=64,
            augment=AugmentConfig(horizontal_flip=0.5),
        ),
        optimizer=OptimizerConfig(name="adamw", lr=3e-4, weight_decay=0.01),
        schedule=ScheduleConfig(epochs=10, policy="cosine", warmup_steps=0),
        runner=RunnerConfig(evaluate_every=10),
    )
