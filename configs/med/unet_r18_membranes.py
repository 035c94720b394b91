"""U-Net, ResNet-18, on grey electron microscopy: ISBI 2012, 30 slices of 512 px, membranes against cells.

    python tools/train.py configs/med/unet_r18_membranes.py --data.root isbi2012
    python tools/cross_validate.py configs/med/unet_r18_membranes.py --data.root isbi2012 --data.folds 5

The folder holds `image/*.png` and `label/*.png`. The ImageNet stem is adapted to one channel; a few hundred random
crops of 256 px, turned and bent, stand in for more slices, and whole slices are put together from overlapping windows.
A fifth of the slices is held out unless there are folds. Results: see the table in README.md.
"""

from pathlib import Path

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    DataConfig,
    Experiment,
    InferenceConfig,
    OptimizerConfig,
    RunnerConfig,
    ScheduleConfig,
    UNetConfig,
)
from tasks.image_spec import ImageSpec


def config() -> Experiment:
    augment = AugmentConfig(quarter_turns=True, elastic=0.02, gamma=(0.7, 1.4), colour=0.3, crop=(256, 256))
    return Experiment(
        name="unet_r18_membranes",
        backbone=BackboneConfig(name="resnet18", weights="torchvision/resnet18"),
        heads={"masks": UNetConfig()},
        image=ImageSpec(channels=1, mean=(0.5,), std=(0.2,)),
        data=DataConfig(root=Path("data/isbi2012"), size=(512, 512), batch_size=8, augment=augment),
        optimizer=OptimizerConfig(name="adamw", lr=5e-4, weight_decay=0.01),
        schedule=ScheduleConfig(epochs=40, policy="cosine", warmup_steps=10),
        inference=InferenceConfig(window=(256, 256), mirror=("horizontal", "vertical")),
        runner=RunnerConfig(evaluate_every=40),
    )
