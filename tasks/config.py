"""One experiment as typed data. Imports nothing heavy, so that `--help` answers at once."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from backbones.errors import UserError
from tasks.classification.head_config import ClassificationConfig
from tasks.config_section import Count, Momentum, Natural, NotNegative, Positive, Section, Share
from tasks.data_config import AugmentConfig, ColumnsConfig, DataConfig, SliceAxis, SourceConfig
from tasks.detection.head_config import (
    CascadeMaskRCNNConfig,
    CascadeRCNNConfig,
    FasterRCNNConfig,
    FCOSConfig,
    MaskRCNNConfig,
    RetinaNetConfig,
    YOLOConfig,
)
from tasks.head_config import HeadConfig, PluginHeadConfig
from tasks.image_spec import ImageSpec
from tasks.segmentation.head_config import (
    DeepLabV3Config,
    DeepLabV3PlusConfig,
    PSPNetConfig,
    SegmentationConfig,
    SegmentationFPNConfig,
    UNetConfig,
    UNetPlusPlusConfig,
)

__all__ = [
    "AugmentConfig",
    "BackboneConfig",
    "CascadeMaskRCNNConfig",
    "CascadeRCNNConfig",
    "ClassificationConfig",
    "ColumnsConfig",
    "DataConfig",
    "DeepLabV3Config",
    "DeepLabV3PlusConfig",
    "Experiment",
    "FCOSConfig",
    "FasterRCNNConfig",
    "HeadConfig",
    "InferenceConfig",
    "LossesConfig",
    "MaskRCNNConfig",
    "MetricsConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PSPNetConfig",
    "PluginHeadConfig",
    "RetinaNetConfig",
    "RunnerConfig",
    "ScheduleConfig",
    "Section",
    "SegmentationConfig",
    "SegmentationFPNConfig",
    "SliceAxis",
    "SourceConfig",
    "UNetConfig",
    "UNetPlusPlusConfig",
    "YOLOConfig",
]


class BackboneConfig(Section):
    """Which network turns images into feature maps. A field left at None is the network's own default."""

    name: str = "resnet50"
    """A registered backbone, as `tools/list.py` names them, or `timm/NAME` for any network of timm's."""
    weights: str | None = None
    """A file, or `torchvision/NAME[.WEIGHTS]` or `timm/NAME[.TAG]` to download; None starts from random."""
    norm: Literal["bn", "frozen_bn", "sync_bn", "gn"] | None = None
    """Normalisation layer."""
    frozen_stages: Natural | None = None
    """Stages that do not train: 1 is the stem, 2 the stem and the first stage (C2), and so on."""
    output_stride: Literal[8, 16, 32] | None = None
    """Stride of C5; below 32 the last stages are dilated instead."""
    zero_init_last: bool | None = None
    """Start each residual branch at zero."""
    init: Literal["kaiming", "xavier"] | None = None
    """How convolutions start: normal by fan-out (He et al. 2015), or uniform (Glorot and Bengio 2010)."""
    activation_checkpointing: bool | None = None
    """Recompute activations in the backward pass: less memory, more time."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Any other keyword of the backbone's factory."""

    def factory_options(self) -> dict[str, JsonValue]:
        """The keywords to call the factory with: what is set, without `name` and `weights`.

        Raises:
            UserError: `options` has a keyword that is set elsewhere.
        """
        for option in self.options:
            if option == "in_channels":
                raise UserError("backbone.options.in_channels: images decide that; leave it out, set image.channels")
            if option in type(self).model_fields:
                raise UserError(f"backbone.options.{option}: has a field of its own; set backbone.{option} instead")
        fields = self.model_dump(exclude={"name", "weights", "options"}, exclude_none=True)
        return {**fields, **self.options}


class ModelConfig(Section):
    """The whole network."""

    weights: Path | None = None
    """A file with a whole model of another library's: a Faster R-CNN of torchvision's, Detectron2's or MMDetection's, a
    classifier of torchvision's, timm's or MMPretrain's, a network of segmentation-models-pytorch's; docs/weights.md.
    Or a run or checkpoint of ours, as with --init."""
    train_only: tuple[str, ...] = ()
    """Heads that learn; the backbone and the other heads stay as the weights have them, to the bit. None: all learn."""


class LossesConfig(Section):
    """How the losses of several heads are weighed against each other."""

    weights: dict[str, NotNegative] = Field(default_factory=dict)
    """Factors on the losses of heads by their names; 1 for a head that is not named."""
    learned: bool = False
    """Learn the factors from the uncertainty of each head (Kendall et al. 2018), beginning with `weights`."""
    lr_factor: Positive = 10.0
    """Learned factors learn at optimizer.lr times this."""


class OptimizerConfig(Section):
    """How gradients change weights."""

    name: Literal["sgd", "adamw", "adam", "rmsprop", "lamb"] = "sgd"
    lr: Positive = 0.02
    """Learning rate at the given batch size."""
    momentum: Momentum = 0.9
    """For sgd and rmsprop."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    """For adam, adamw and lamb."""
    weight_decay: NotNegative = 1e-4
    """L2 (decoupled for adamw and lamb); not on norms and biases."""
    decay_norms: bool = False
    """Decay norms and biases too, as the first ResNets were trained."""
    l1: NotNegative = 0.0
    """Weight of the sum of absolute weights in the loss; not on norms and biases."""
    backbone_lr_factor: NotNegative = 1.0
    """The backbone learns at lr times this."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each stage of the backbone learns at this times the rate of the one after it."""
    clip_grad_norm: Positive | None = None
    """Largest norm of all gradients together."""


class ScheduleConfig(Section):
    """How long to train and how the learning rate changes: in epochs, or in optimizer steps where `steps` is set."""

    epochs: Count = 12
    steps: Count | None = None
    """Optimizer steps to train, in place of `epochs`; `milestones` then count steps too."""
    policy: Literal["milestones", "cosine", "polynomial", "constant"] = "milestones"
    milestones: tuple[NotNegative, ...] = (8, 11)
    """Epochs (steps where `steps` is set) after which the rate is multiplied by gamma."""
    gamma: Positive = 0.1
    power: NotNegative = 0.9
    """Of the polynomial."""
    final_lr_factor: NotNegative = 0.0
    """Where cosine and polynomial end, as a share of the rate."""
    warmup_steps: Natural = 500
    """Optimizer steps over which the rate rises linearly from near zero."""
    warmup_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    """Warm up at this share of the rate all along, in place of rising."""
    freeze_backbone_epochs: Natural = 0
    """Epochs at the beginning in which only the heads learn; the backbone's norms are in evaluation mode."""


class InferenceConfig(Section):
    """How predictions are made, in evaluation and by `tools/predict.py`, for heads that give scores (not boxes)."""

    window: tuple[Count, Count] | None = None
    """Masks: height and width in pixels of sliding windows over the resized image; None: the whole image at once."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of a window that the next one covers again."""
    blend: Literal["gaussian", "constant"] = "gaussian"
    """How overlapping windows are weighted: by the distance from their centre, or alike."""
    mirror: tuple[Literal["horizontal", "vertical"], ...] = ()
    """Test-time augmentation: average over the image and its mirror images, both at once included."""
    scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)
    """Test-time augmentation: average over these factors on the size."""


class MetricsConfig(Section):
    """What the metrics leave to choose."""

    surface_tolerance: NotNegative = 1.0
    """Surface Dice counts contours that are at most this far apart, in mm where the spacing is known, else pixels."""
    froc_rates: tuple[Positive, ...] = ()
    """Boxes: report the sensitivity at these numbers of false positives an image, such as 0.125 0.25 0.5 1 2 4 8."""
    froc_iou: Share = 0.5
    """A box finds an annotated one at this IoU, in FROC."""


class RunnerConfig(Section):
    """The training run itself."""

    seed: int = 0
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 where the hardware multiplies it natively, else fp16 on CUDA, else fp32."""
    deterministic: bool = False
    """On CUDA too, the same seed gives the same weights to the last bit, at some cost in speed; a CPU always does."""
    accumulate: Count = 1
    """Forward and backward passes a step is split into; the batch size stays what it is, memory shrinks."""
    ema_decay: Share | None = None
    """Keep an exponential moving average of the weights and evaluate that; 0.999, say."""
    evaluate_every: Count = 1
    """Epochs between evaluations; the end is always evaluated."""
    monitor: str | None = None
    """Metric that names the best checkpoint, as in metrics.jsonl; None is the first head's main one."""
    early_stopping: Count | None = None
    """Stop after this many evaluations without a better one."""
    save_every_minutes: Positive = 10.0
    """Longest time between checkpoints; each epoch ends with one in any case."""
    save_every_steps: Count | None = None
    """Also save at every so many steps."""
    keep_last: Count = 2
    """Checkpoints kept beside the best one."""
    log_every: Count = 20
    """Steps between lines of metrics.jsonl."""
    pictures: Natural = 8
    """Validation images drawn with predictions after each evaluation."""
    report: bool = True
    """Write report.html, curves, metrics and errors on one page, when training is done."""
    shard: bool = False
    """Several processes: each keeps only its share of the weights, gradients and optimizer state (FSDP)."""
    stall_seconds: Positive = 600.0
    """Several processes: one that has not gone on for so long is reported with its stack, at 3 times given up."""
    tensorboard: bool = False
    """Also write TensorBoard events (needs the extra `tensorboard`)."""


class Experiment(Section):
    """Everything that decides the result of a run."""

    name: str = "experiment"
    """Names the run folder."""
    plugins: tuple[str, ...] = ()
    """Modules or .py files that register what the config names; a config that registers something adds itself."""
    backbone: BackboneConfig = Field(default_factory=BackboneConfig)
    heads: dict[str, HeadConfig] = Field(default_factory=dict)
    """The heads by the name that their losses and metrics carry."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    image: ImageSpec = Field(default_factory=ImageSpec)
    data: DataConfig = Field(default_factory=DataConfig)
    losses: LossesConfig = Field(default_factory=LossesConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    inference: InferenceConfig = Field(default_factory=InferenceConfig)
    metrics: MetricsConfig = Field(default_factory=MetricsConfig)
    runner: RunnerConfig = Field(default_factory=RunnerConfig)
