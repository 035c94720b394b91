"""CIFAR-10 or -100 with ResNet-56: `cifar_resnet20.py` with more layers (He et al., arXiv:1512.03385, section 4.2).

    python tools/train.py configs/cls/cifar_resnet56.py --data.root cifar10

CIFAR-10 test error of the paper (table 6), not ours: 6.97 %. On 3,200 images we saw it stay at chance for the 260 steps
that were run; with --schedule.warmup_steps 100 it learns.
"""

from configs.cls.cifar_resnet20 import config as resnet20
from tasks.config import Experiment


def config() -> Experiment:
    cfg = resnet20()
    cfg.name = cfg.backbone.name = "cifar_resnet56"
    return cfg
