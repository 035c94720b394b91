"""CIFAR-10 or -100 with ResNet-110, which begins at a tenth of the rate (He et al., arXiv:1512.03385, section 4.2).

    python tools/train.py configs/cls/cifar_resnet110.py --data.root cifar10

CIFAR-10 test error of the paper (table 6), not ours: 6.43 %, the best of five runs; 6.61 +- 0.16 % over the five. The
paper keeps the low rate until the training error is below 80 %, "about 400 iterations"; here it is 400.
"""

from configs.cls.cifar_resnet20 import config as resnet20
from tasks.config import Experiment


def config() -> Experiment:
    cfg = resnet20()
    cfg.name = cfg.backbone.name = "cifar_resnet110"
    cfg.schedule.warmup_steps, cfg.schedule.warmup_factor = 400, 0.1
    return cfg
