r"""CIFAR-10 or -100 with the pre-activation ResNet-164 ("Identity Mappings", He et al., arXiv:1603.05027, section 4).

    python tools/train.py configs/cls/cifar_preact164.py --data.root cifar10
    python tools/train.py configs/cls/cifar_preact164.py --data.root cifar10 --backbone.name cifar_resnet1001_v2 \
        --data.batch_size 64 --schedule.steps 128000 --schedule.milestones 64000 96000 --runner.accumulate 2

CIFAR-10 test errors of the paper (table 4), not ours: 5.46 % with 164 layers, and 4.62 % with 1001 layers and batches
of 64, for which the second command trains as many epochs. All CIFAR networks of that paper warm up.
"""

from configs.cls.cifar_resnet110 import config as resnet110
from tasks.config import Experiment


def config() -> Experiment:
    cfg = resnet110()
    cfg.name, cfg.backbone.name = "cifar_preact164", "cifar_resnet164_v2"
    return cfg
