"""RetinaNet, ResNet-18-FPN, on blood cells: BCCD, 292 images to train on, 72 to test on, Pascal VOC.

    python tools/train.py configs/det/bccd_retinanet_r18_fpn.py --data.root BCCD --backbone.weights r18.safetensors

BCCD is the folder with Annotations, ImageSets and JPEGImages of github.com/Shenggan/BCCD_Dataset; the weights are any
ImageNet ResNet-18, such as `torchvision/resnet18`, which is downloaded. Not yet run by us at full length.
"""

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    DataConfig,
    Experiment,
    OptimizerConfig,
    RetinaNetConfig,
    ScheduleConfig,
)


def config() -> Experiment:
    return Experiment(
        name="bccd_retinanet_r18_fpn",
        backbone=BackboneConfig(name="resnet18", weights="torchvision/resnet18", norm="frozen_bn", frozen_stages=2),
        heads={"boxes": RetinaNetConfig()},
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
