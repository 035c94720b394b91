"""U-Net, ResNet-18, cell nuclei: the Data Science Bowl's images cut to 256 px, 268 to train on, 66 to validate on.

    python tools/train.py configs/seg/unet_r18_nuclei.py --data.root nuclei --backbone.weights resnet18.safetensors

The folder holds COCO json; any folder of images and masks does as well. Results: see the table in README.md.
"""

from pathlib import Path

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    DataConfig,
    Experiment,
    OptimizerConfig,
    ScheduleConfig,
    UNetConfig,
)


def config() -> Experiment:
    augment = AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5, quarter_turns=True)
    return Experiment(
        name="unet_r18_nuclei",
        backbone=BackboneConfig(name="resnet18", weights="torchvision/resnet18"),
        heads={"masks": UNetConfig()},
        data=DataConfig(root=Path("data/nuclei"), size=(256, 256), batch_size=8, augment=augment),
        optimizer=OptimizerConfig(name="adam", lr=2e-4, weight_decay=0.0),
        schedule=ScheduleConfig(epochs=20, policy="cosine", warmup_steps=0),
    )


def sample() -> Experiment:
    """The same network from random weights on generated images of cells."""
    cfg = config()
    cfg.name = "unet_r18_nuclei_sample"
    cfg.backbone.weights = None
    cfg.data = DataConfig(format="cells", size=(128, 128), batch_size=8, augment=cfg.data.augment)
    cfg.schedule.epochs = 4
    return cfg
