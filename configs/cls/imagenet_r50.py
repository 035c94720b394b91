"""ImageNet with ResNet-50 in 90 epochs, as torchvision's published weights (IMAGENET1K_V1) were trained.

    torchrun --nproc-per-node 8 tools/train.py configs/cls/imagenet_r50.py --data.root imagenet
    python tools/train.py configs/cls/imagenet_r50.py --data.root imagenet --runner.accumulate 4   # one GPU

`imagenet` holds `train/n01440764/*.JPEG` and `val/n01440764/*.JPEG`. torchvision tells a top-1 accuracy of 76.13 %, and
Goyal et al. (arXiv:1706.02677, section 5.1) 76.4 % with the same schedule, Nesterov's momentum, no decay of norms, and
the last norm of each block starting at zero. Not measured by us.
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


def config() -> Experiment:
    augment = AugmentConfig(random_resized_crop=(0.08, 1.0), horizontal_flip=0.5)
    data = DataConfig(root=Path("data/imagenet"), short_side=(256,), center_crop=(224, 224), batch_size=256, workers=8)
    data.augment = augment
    return Experiment(
        name="imagenet_r50",
        backbone=BackboneConfig(name="resnet50"),
        heads={"labels": ClassificationConfig()},
        data=data,
        optimizer=OptimizerConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, decay_norms=True),
        schedule=ScheduleConfig(epochs=90, milestones=(30, 60, 80), warmup_steps=0),
    )
