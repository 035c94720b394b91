"""DeepLabV3+, ResNet-50 at output stride 16, the Pascal VOC recipe: crops of 512 px, batch 16, polynomial decay.

    python tools/train.py configs/seg/deeplabv3plus_r50.py --data.root VOC2012 --data.ignored_value 255
    python tools/train.py configs/seg/deeplabv3plus_r50.py --data.root my_data   # images/ and masks/, COCO json, or CSV

Larger images are put together from windows of 512 px, averaged with their mirror image. Not yet run by us at full
length; torchvision publishes a mean IoU of 66.4 for DeepLabV3 R50 on COCO's images with VOC's classes.
"""

from pathlib import Path

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    DataConfig,
    DeepLabV3PlusConfig,
    Experiment,
    InferenceConfig,
    OptimizerConfig,
    ScheduleConfig,
)


def config() -> Experiment:
    augment = AugmentConfig(scale_jitter=(0.5, 2.0), crop=(512, 512), colour=0.3)
    data = DataConfig(root=Path("data/voc"), short_side=(512,), long_side=2048, batch_size=16, augment=augment)
    return Experiment(
        name="deeplabv3plus_r50",
        backbone=BackboneConfig(name="resnet50", weights="torchvision/resnet50", output_stride=16),
        heads={"masks": DeepLabV3PlusConfig(auxiliary_weight=0.4)},
        data=data,
        optimizer=OptimizerConfig(lr=0.01, backbone_lr_factor=0.1),
        schedule=ScheduleConfig(epochs=50, policy="polynomial", warmup_steps=500),
        inference=InferenceConfig(window=(512, 512), mirror=("horizontal",)),
    )
