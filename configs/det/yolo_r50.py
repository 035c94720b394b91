"""A YOLO without anchors, ResNet-50, COCO 1x: see `heads/yolo.py` for what it is made of.

    python tools/train.py configs/det/yolo_r50.py                      # COCO under data/coco, else a sample
    python tools/train.py configs/det/yolo_r50.py --data.root my_data  # your own COCO json or VOC folder

No other library has this very network. For detectors that share its losses and its assignment, with levels up to P7,
MMDetection publishes with this schedule: generalised focal loss 40.2, TOOD (with a head of its own) 42.4 box AP on COCO
val2017. Not yet run by us at full length. Gradients are clipped, for rare large ones.
"""

from pathlib import Path

from tasks.config import BackboneConfig, DataConfig, Experiment, OptimizerConfig, ScheduleConfig, YOLOConfig


def config() -> Experiment:
    return Experiment(
        name="yolo_r50",
        backbone=BackboneConfig(name="resnet50", weights="torchvision/resnet50", norm="frozen_bn", frozen_stages=2),
        heads={"boxes": YOLOConfig()},
        data=DataConfig(root=Path("data/coco"), batch_size=16, short_side=(800,), long_side=1333),
        optimizer=OptimizerConfig(lr=0.01, clip_grad_norm=35.0),
        schedule=ScheduleConfig(epochs=12, milestones=(8, 11), warmup_steps=500),
    )


def sample() -> Experiment:
    """The same architecture from random weights on generated 128 px images of cells, in minutes on a CPU."""
    cfg = config()
    cfg.name = "yolo_r50_sample"
    # Frozen norms need pretrained statistics; a batch of small images can train its own.
    cfg.backbone = BackboneConfig(name="resnet50", norm="bn", zero_init_last=True)
    cfg.data = DataConfig(format="cells", batch_size=8, short_side=(128,), long_side=128)
    cfg.schedule = ScheduleConfig(epochs=4, policy="cosine", warmup_steps=20)
    return cfg
