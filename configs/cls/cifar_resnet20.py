"""CIFAR-10 or -100 with ResNet-20, as in "Deep Residual Learning" (He et al., arXiv:1512.03385, section 4.2).

    python tools/train.py configs/cls/cifar_resnet20.py --data.root cifar10
    python tools/train.py configs/cls/cifar_resnet20.py --data.root cifar10 --backbone.name cifar_resnet32

CIFAR-10 test errors of the paper (table 6), not ours: 8.75, 7.51, 7.17 and 6.97 % with 20, 32, 44 and 56 layers.
Compare the evaluation of the last step: the best checkpoint was chosen on the test images. Two things differ from the
paper: mean and deviation of each channel stand for the mean of each pixel, and a batch that is not full is left out.
As in the paper, what a crop takes from outside the image is zero after the mean has been subtracted.
"""

from pathlib import Path

from tasks.config import (
    AugmentConfig,
    BackboneConfig,
    ClassificationConfig,
    DataConfig,
    Experiment,
    OptimizerConfig,
    ScheduleConfig,
)
from tasks.image_spec import ImageSpec


def config() -> Experiment:
    augment = AugmentConfig(crop=(32, 32), crop_padding=4, horizontal_flip=0.5)
    return Experiment(
        name="cifar_resnet20",
        backbone=BackboneConfig(name="cifar_resnet20"),
        heads={"labels": ClassificationConfig()},
        image=ImageSpec(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
        data=DataConfig(root=Path("data/cifar10"), size=(32, 32), batch_size=128, augment=augment),
        optimizer=OptimizerConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, decay_norms=True),
        schedule=ScheduleConfig(steps=64000, milestones=(32000, 48000), warmup_steps=0),
    )
