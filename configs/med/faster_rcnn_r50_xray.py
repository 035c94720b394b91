"""Faster R-CNN, ResNet-50-FPN, for findings on X-rays (DICOM, 16-bit PNG), scored by FROC as well as by AP.

    pip install -e ".[medical]"
    python tools/train.py configs/med/faster_rcnn_r50_xray.py --data.root xrays
    python tools/cross_validate.py configs/med/faster_rcnn_r50_xray.py --data.root xrays --data.folds 5

The folder holds COCO json whose images are `.dcm` files, or any others. The full depth of the files is kept; each image
is normalised by its own 0.5th and 99.5th percentile. Name the patient in the file names with
`--data.group_by "^(\\w+?)_"`, so that none is on both sides. Not measured on public data.
"""

from pathlib import Path

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    DataConfig,
    Experiment,
    FasterRCNNConfig,
    MetricsConfig,
    OptimizerConfig,
    RunnerConfig,
    ScheduleConfig,
)
from tasks.image_spec import ImageSpec


def config() -> Experiment:
    augment = AugmentConfig(horizontal_flip=0.5, rotate=10.0, scale_jitter=(0.8, 1.25), gamma=(0.8, 1.25), colour=0.2)
    return Experiment(
        name="faster_rcnn_r50_xray",
        backbone=BackboneConfig(name="resnet50", weights="torchvision/resnet50", norm="frozen_bn", frozen_stages=2),
        heads={"boxes": FasterRCNNConfig()},
        image=ImageSpec(channels=1, bit_depth=32, percentiles=(0.5, 99.5), mean=(0.5,), std=(0.25,)),
        data=DataConfig(root=Path("data/xrays"), short_side=(800,), long_side=1024, batch_size=4, augment=augment),
        optimizer=OptimizerConfig(lr=0.005),
        schedule=ScheduleConfig(epochs=24, policy="cosine", warmup_steps=200),
        metrics=MetricsConfig(froc_rates=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)),
        runner=RunnerConfig(early_stopping=6),
    )
