"""Faults of what an experiment says about training."""

from pathlib import Path

from tasks.config import Experiment, FasterRCNNConfig, PluginHeadConfig
from tests.tasks.checking.planted import Faults

TRAINING = Faults()


@TRAINING.planted("anchors too large for the objects", "boxes", "boxes-unmatched")
def _anchors(config: Experiment, folder: Path) -> None:
    boxes = config.heads["boxes"]
    assert isinstance(boxes, FasterRCNNConfig)
    boxes.anchor_sizes = (64, 96, 128, 256, 512)


@TRAINING.planted("a layer left frozen", "boxes", "frozen-unsaid")
def _frozen_layer(config: Experiment, folder: Path) -> None:
    config.backbone.name = "forgetful_net"


@TRAINING.planted("a backbone that never thaws", "labels", "backbone-never-trains")
def _frozen_backbone(config: Experiment, folder: Path) -> None:
    config.schedule.freeze_backbone_epochs = 100


@TRAINING.planted("frozen parts at random weights", "labels", "weights-doubtful")
def _frozen_random(config: Experiment, folder: Path) -> None:
    config.backbone.name, config.backbone.frozen_stages = "resnet18", 2


@TRAINING.planted("a learning rate a hundred times too high, SGD", "boxes", "lr-too-high")
def _high_sgd(config: Experiment, folder: Path) -> None:
    config.optimizer.lr *= 100


@TRAINING.planted("a learning rate a hundred times too high, AdamW", "masks", "lr-too-high")
def _high_adamw(config: Experiment, folder: Path) -> None:
    config.optimizer.lr *= 100


@TRAINING.planted("a learning rate far too low", "labels", "lr-too-low")
def _low(config: Experiment, folder: Path) -> None:
    config.optimizer.lr /= 1000


@TRAINING.planted("a warm-up longer than the run", "labels", "warmup-too-long")
def _warmup(config: Experiment, folder: Path) -> None:
    config.schedule.warmup_steps = 5000


@TRAINING.planted("the weight of a loss at zero", "boxes", "loss-zero")
def _weight(config: Experiment, folder: Path) -> None:
    boxes = config.heads["boxes"]
    assert isinstance(boxes, FasterRCNNConfig)
    boxes.box_loss_weight = 0


@TRAINING.planted("batch norm with one image at a time", "masks", "batch-norm-alone")
def _batch_norm(config: Experiment, folder: Path) -> None:
    config.data.batch_size = 1


@TRAINING.planted("a head cut off from its backbone", "labels", "no-gradient")
def _detached(config: Experiment, folder: Path) -> None:
    config.heads = {"labels": PluginHeadConfig(name="detached_labels")}


@TRAINING.planted("images too large for the memory", "masks", "memory-short")
def _memory(config: Experiment, folder: Path) -> None:
    config.data.short_side, config.data.long_side, config.data.batch_size = (1024,), 1024, 4096


@TRAINING.planted("inputs a thousand times too large", "labels", "loss-at-start")
def _inputs(config: Experiment, folder: Path) -> None:
    config.image.high, config.backbone.name, config.backbone.norm = 0.1, "resnet18", "frozen_bn"


@TRAINING.planted("a head that remembers its calls", "labels", "export-differs")
def _counting(config: Experiment, folder: Path) -> None:
    config.heads = {"labels": PluginHeadConfig(name="counting_labels")}


@TRAINING.planted("a detector without outputs of fixed sizes", "boxes", "not-exportable")
def _unfixed(config: Experiment, folder: Path) -> None:
    config.heads = {"boxes": PluginHeadConfig(name="unfixed_boxes")}
