"""Mask R-CNN, ResNet-50-FPN, COCO 1x.

    python tools/train.py configs/det/mask_rcnn_r50_fpn.py                      # COCO under data/coco, else a sample
    python tools/train.py configs/det/mask_rcnn_r50_fpn.py --data.root my_data  # your own COCO json with segmentations

Reference results of this recipe on COCO val2017, box AP and mask AP, as their authors publish them: torchvision 37.9
and 34.6 (26 epochs), MMDetection 38.2 and 34.7, Detectron2 38.6 and 35.2. Not yet run by us at full length.
"""

from pathlib import Path

from tasks.config import BackboneConfig, DataConfig, Experiment, MaskRCNNConfig, ScheduleConfig


def config() -> Experiment:
    return Experiment(
        name="mask_rcnn_r50_fpn",
        backbone=BackboneConfig(name="resnet50", weights="torchvision/resnet50", norm="frozen_bn", frozen_stages=2),
        heads={"instances": MaskRCNNConfig()},
        data=DataConfig(root=Path("data/coco"), batch_size=16, short_side=(800,), long_side=1333),
        schedule=ScheduleConfig(epochs=12, milestones=(8, 11), warmup_steps=500),
    )


def sample() -> Experiment:
    """The same architecture from random weights on generated 128 px images of cells, in minutes on a CPU."""
    cfg = config()
    cfg.name = "mask_rcnn_r50_fpn_sample"
    # Frozen norms need pretrained statistics; a batch of small images can train its own.
    cfg.backbone = BackboneConfig(name="resnet50", norm="bn", zero_init_last=True)
    cfg.heads["instances"] = MaskRCNNConfig(
        anchor_sizes=(16, 32, 64, 128, 256), rpn_post_nms=300, rpn_post_nms_test=100, roi_samples=64
    )
    cfg.data = DataConfig(format="cells", batch_size=8, short_side=(128,), long_side=128)
    cfg.schedule = ScheduleConfig(epochs=4, policy="cosine", warmup_steps=20)
    return cfg
