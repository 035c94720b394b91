"""U-Net, ResNet-34, on axial slices of CT volumes (NIfTI), three windows as channels, folds by patient.

    python tools/cross_validate.py configs/med/unet_r34_ct.py --data.root volumes         # pip install -e ".[medical]"
    python tools/predict.py runs/unet_r34_ct-5-fold new_volume.nii.gz                     # all folds together

The folder holds `images/NAME.nii.gz` and `masks/NAME.nii.gz`; slices of a volume stay on one side of every split.
A soft-tissue, a lung and a bone window become three channels on the device. Not measured on public data.
"""

from pathlib import Path

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    DataConfig,
    Experiment,
    InferenceConfig,
    OptimizerConfig,
    ScheduleConfig,
    UNetConfig,
)
from tasks.image_spec import ImageSpec

WINDOWS = ((40.0, 400.0), (-600.0, 1500.0), (400.0, 1800.0))  # centre and width: soft tissue, lung, bone


def config() -> Experiment:
    augment = AugmentConfig(horizontal_flip=0.0, rotate=15.0, scale_jitter=(0.8, 1.25), crop=(384, 384))
    data = DataConfig(root=Path("data/ct"), short_side=(512,), long_side=512, batch_size=8, folds=5, augment=augment)
    return Experiment(
        name="unet_r34_ct",
        backbone=BackboneConfig(name="resnet34", weights="torchvision/resnet34"),
        heads={"masks": UNetConfig(class_weights="balanced")},
        image=ImageSpec(channels=3, bit_depth=32, windows=WINDOWS),
        data=data,
        optimizer=OptimizerConfig(name="adamw", lr=3e-4, weight_decay=0.01, layer_decay=0.8),
        schedule=ScheduleConfig(epochs=60, policy="cosine", warmup_steps=100, freeze_backbone_epochs=2),
        inference=InferenceConfig(window=(384, 384)),
    )
