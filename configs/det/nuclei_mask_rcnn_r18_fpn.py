"""Mask R-CNN, ResNet-18-FPN, nuclei of cells: the Data Science Bowl cut to 256 px, 268 images to train on, 66 held out.

    python tools/train.py configs/det/nuclei_mask_rcnn_r18_fpn.py --data.root nuclei --backbone.weights r18.safetensors

The folder holds COCO json with a run-length mask of each nucleus, 28 in an image on average and up to 101; the weights
are any ImageNet ResNet-18, such as `torchvision/resnet18`, which is downloaded.
"""

from pathlib import Path

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    DataConfig,
    Experiment,
    MaskRCNNConfig,
    OptimizerConfig,
    ScheduleConfig,
)


def config() -> Experiment:
    # 96 % of the nuclei measure 5 to 28 pixels.
    head = MaskRCNNConfig(anchor_sizes=(8, 16, 32, 64, 128), roi_samples=128, detections_per_image=150)
    augment = AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5, quarter_turns=True)
    return Experiment(
        name="nuclei_mask_rcnn_r18_fpn",
        backbone=BackboneConfig(name="resnet18", weights="torchvision/resnet18", norm="frozen_bn", frozen_stages=2),
        heads={"instances": head},
        data=DataConfig(root=Path("data/nuclei"), short_side=(256,), long_side=256, batch_size=4, augment=augment),
        optimizer=OptimizerConfig(lr=0.01),
        schedule=ScheduleConfig(epochs=12, milestones=(8, 11), warmup_steps=100),
    )
