"""A YOLO without anchors, ResNet-18, on blood cells: BCCD, 292 images to train on, 72 to test on, Pascal VOC.

    python tools/train.py configs/det/bccd_yolo_r18.py --data.root BCCD --backbone.weights r18.safetensors

BCCD is the folder with Annotations, ImageSets and JPEGImages of github.com/Shenggan/BCCD_Dataset; the weights are any
ImageNet ResNet-18, such as `torchvision/resnet18`, which is downloaded. Result of one run (seed 0, bf16 on 1 thread
of an AMD EPYC, torch 2.14.1, 2026-11-27): AP 0.587, AP50 0.917, AP75 0.661 after the last epoch.
"""

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    DataConfig,
    Experiment,
    OptimizerConfig,
    ScheduleConfig,
    YOLOConfig,
)


def config() -> Experiment:
    return Experiment(
        name="bccd_yolo_r18",
        backbone=BackboneConfig(name="resnet18", weights="torchvision/resnet18", norm="frozen_bn", frozen_stages=2),
        heads={"boxes": YOLOConfig()},
        data=DataConfig(
            train="trainval",
            val="test",
            short_side=(320,),
            long_side=427,
            batch_size=4,
            augment=AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5),
        ),
        optimizer=OptimizerConfig(lr=0.01),
        schedule=ScheduleConfig(epochs=12, milestones=(8, 11), warmup_steps=100),
    )
