"""MNIST, or Fashion-MNIST, from the files that torchvision downloads, with a small network on grey images of 28 px.

    python tools/train.py configs/cls/mnist.py --data.root data          # holds MNIST/raw/train-images-idx3-ubyte, ...
    python tools/train.py configs/cls/mnist.py --data.root data --backbone.init kaiming

The convolutions start as Glorot and Bengio have it ("Understanding the difficulty of training deep feedforward neural
networks", 2010). Images are moved by up to 2 pixels; black is the zero of the network, so that what comes in from
outside is background. No accuracy is told, since none has been measured.
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
    augment = AugmentConfig(horizontal_flip=0.0, crop=(28, 28), crop_padding=2)
    return Experiment(
        name="mnist",
        backbone=BackboneConfig(name="cifar_resnet20", init="xavier"),
        heads={"labels": ClassificationConfig()},
        image=ImageSpec(channels=1, mean=(0.0,), std=(0.3081,)),
        data=DataConfig(root=Path("data/mnist"), size=(28, 28), batch_size=128, augment=augment),
        optimizer=OptimizerConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=ScheduleConfig(epochs=10, policy="cosine", warmup_steps=100),
    )
