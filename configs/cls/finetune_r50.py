"""Fine-tune an ImageNet ResNet-50 on your own image folders, ROOT/CLASS/*.jpg or ROOT/SPLIT/CLASS/*.jpg, or a CSV file.

    python tools/train.py configs/cls/finetune_r50.py --data.root my_images
    python tools/train.py configs/cls/finetune_r50.py --data.root my_images --backbone.frozen_stages 5  # linear probe

The head learns alone at first, then each stage at 0.7 times the rate of the one after it. Not measured on public data.
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
    augment = AugmentConfig(random_resized_crop=(0.35, 1.0), policy="trivial_augment")
    return Experiment(
        name="finetune_r50",
        backbone=BackboneConfig(name="resnet50", weights="torchvision/resnet50"),
        heads={"labels": ClassificationConfig(dropout=0.2, label_smoothing=0.1)},
        data=DataConfig(root=Path("data/images"), size=(224, 224), batch_size=32, balance=0.5, augment=augment),
        optimizer=OptimizerConfig(name="adamw", lr=5e-4, weight_decay=0.05, layer_decay=0.7),
        schedule=ScheduleConfig(epochs=20, policy="cosine", warmup_steps=50, freeze_backbone_epochs=1),
    )


def sample() -> Experiment:
    """The same from random weights on generated images of cells, told apart by the rarest kind in them."""
    cfg = config()
    cfg.name, cfg.backbone.weights, cfg.schedule.epochs = "finetune_r50_sample", None, 6
    cfg.optimizer.layer_decay, cfg.schedule.freeze_backbone_epochs = 1.0, 0  # nothing is learned yet that could be kept
    cfg.data = DataConfig(format="cells", size=(64, 64), batch_size=16, augment=AugmentConfig(vertical_flip=0.5))
    return cfg
