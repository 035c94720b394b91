"""A YOLO without anchors, ResNet-18, on blood cells: BCCD, as bccd_faster_rcnn_r18_fpn.py with another head.

    python tools/train.py configs/det/bccd_yolo_r18.py --data.root BCCD --backbone.weights r18.safetensors

To be compared with that one. Result of one run (seed 0, bf16 on 1 thread of an AMD EPYC, torch 2.14.1, 2026-11-27):
AP 0.587, AP50 0.917, AP75 0.661 after the last epoch.
"""

from configs.det.bccd_faster_rcnn_r18_fpn import config as faster_rcnn
from tasks.config import Experiment, YOLOConfig


def config() -> Experiment:
    cfg = faster_rcnn()
    cfg.name = "bccd_yolo_r18"
    cfg.heads["boxes"] = YOLOConfig()
    return cfg
