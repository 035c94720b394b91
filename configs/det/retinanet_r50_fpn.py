"""RetinaNet, ResNet-50-FPN, COCO 1x.

    python tools/train.py configs/det/retinanet_r50_fpn.py                      # COCO under data/coco, else a sample
    python tools/train.py configs/det/retinanet_r50_fpn.py --data.root my_data  # your own COCO json or VOC folder

Reference results on COCO val2017, as their authors publish them: torchvision 36.4 (26 epochs), MMDetection 36.5 box AP
(1x, P6 from C5). Not yet run by us at full length. As in the paper, 16 images and a rate of 0.01; gradients are
clipped, for rare large ones.
"""

from pathlib import Path

from tasks.config import BackboneConfig, DataConfig, Experiment, OptimizerConfig, RetinaNetConfig, ScheduleConfig


def config() -> Experiment:
    return Experiment(
        name="retinanet_r50_fpn",
        backbone=BackboneConfig(name="resnet50", weights="torchvision/resnet50", norm="frozen_bn", frozen_stages=2),
        heads={"boxes": RetinaNetConfig()},
        data=DataConfig(root=Path("data/coco"), batch_size=16, short_side=(800,), long_side=1333),
        optimizer=OptimizerConfig(lr=0.01, clip_grad_norm=35.0),
        schedule=ScheduleConfig(epochs=12, milestones=(8, 11), warmup_steps=500),
    )


def sample() -> Experiment:
    """The same architecture from random weights on generated 128 px images of cells, in minutes on a CPU."""
    cfg = config()
    cfg.name = "retinanet_r50_fpn_sample"
    # Frozen norms need pretrained statistics; a batch of small images can train its own.
    cfg.backbone = BackboneConfig(name="resnet50", norm="bn", zero_init_last=True)
    cfg.heads["boxes"] = RetinaNetConfig(anchor_sizes=(12, 24, 48, 96, 192), tower_depth=2, tower_norm="gn")
    cfg.data = DataConfig(format="cells", batch_size=8, short_side=(128,), long_side=128)
    cfg.schedule = ScheduleConfig(epochs=8, policy="cosine", warmup_steps=20)
    return cfg
