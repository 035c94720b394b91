"""FCOS, ResNet-18-FPN, on blood cells: BCCD, as configs/det/bccd_faster_rcnn_r18_fpn.py with another head.

    python tools/train.py configs/det/bccd_fcos_r18_fpn.py --data.root BCCD --backbone.weights r18.safetensors

To be compared with that one. Not yet run by us at full length.
"""

from configs.det.bccd_faster_rcnn_r18_fpn import config as faster_rcnn
from tasks.config import Experiment, FCOSConfig


def config() -> Experiment:
    cfg = faster_rcnn()
    cfg.name = "bccd_fcos_r18_fpn"
    cfg.heads["boxes"] = FCOSConfig()
    return cfg
