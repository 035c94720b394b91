"""RetinaNet, ResNet-18-FPN, on blood cells: BCCD, as configs/det/bccd_faster_rcnn_r18_fpn.py with another head.

    python tools/train.py configs/det/bccd_retinanet_r18_fpn.py --data.root BCCD --backbone.weights r18.safetensors

To be compared with that one. Not yet run by us at full length.
"""

from configs.det.bccd_faster_rcnn_r18_fpn import config as faster_rcnn
from tasks.config import Experiment, RetinaNetConfig


def config() -> Experiment:
    cfg = faster_rcnn()
    cfg.name = "bccd_retinanet_r18_fpn"
    cfg.heads["boxes"] = RetinaNetConfig()
    return cfg
