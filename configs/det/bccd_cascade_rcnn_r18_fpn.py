"""Cascade R-CNN, ResNet-18-FPN, on blood cells: BCCD, as configs/det/bccd_faster_rcnn_r18_fpn.py with three stages.

    python tools/train.py configs/det/bccd_cascade_rcnn_r18_fpn.py --data.root BCCD --backbone.weights r18.safetensors

To be compared with that one: the third stage asks for closer boxes, which AP75 shows first.
"""

from configs.det.bccd_faster_rcnn_r18_fpn import config as faster_rcnn
from tasks.config import CascadeRCNNConfig, Experiment


def config() -> Experiment:
    cfg = faster_rcnn()
    cfg.name = "bccd_cascade_rcnn_r18_fpn"
    cfg.heads["boxes"] = CascadeRCNNConfig()
    return cfg
