"""Boxes, masks and the number of nuclei on one ResNet-18: the Data Science Bowl's images, 268 to train on, 66 held out.

    python tools/train.py configs/multi/nuclei_r18.py --data.root nuclei --backbone.weights resnet18.safetensors
    python tools/train.py configs/multi/nuclei_r18.py --data.root nuclei --only count     # one of them alone

All three come from one COCO file with an outline of each nucleus. In 4 of the 12 epochs (`--schedule.epochs 4`; one run
each, seed 0, bf16 on 1 thread of an AMD EPYC, torch 2.14.1, 2026-11-27), all at once | one alone: masks Dice 0.857 |
0.850, count R2 0.871 | 0.906, MAE 6.0 | 5.0, boxes AP 0.420, AP50 0.804. Not yet run in full.
"""

from pathlib import Path

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    ClassificationConfig,
    DataConfig,
    Experiment,
    FasterRCNNConfig,
    OptimizerConfig,
    ScheduleConfig,
    UNetConfig,
)


def config() -> Experiment:
    # 96 % of the nuclei measure 5 to 28 pixels.
    boxes = FasterRCNNConfig(anchor_sizes=(8, 16, 32, 64, 128), roi_samples=128, detections_per_image=150)
    augment = AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5, quarter_turns=True)
    data = DataConfig(root=Path("data/nuclei"), size=(256, 256), batch_size=8, augment=augment, count_objects="all")
    return Experiment(
        name="nuclei_r18",
        backbone=BackboneConfig(name="resnet18", weights="torchvision/resnet18"),
        heads={"boxes": boxes, "masks": UNetConfig(), "count": ClassificationConfig(target="regression")},
        data=data,
        optimizer=OptimizerConfig(name="adamw", lr=2e-4, weight_decay=0.01, clip_grad_norm=10),
        schedule=ScheduleConfig(epochs=12, policy="cosine", warmup_steps=30),
    )
