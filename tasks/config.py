"""One experiment as typed data. Imports nothing heavy, so that `--help` answers at once."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from tasks.image_spec import ImageSpec

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A group of fields: unknown names are refused, assignments are checked."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class BackboneConfig(Section):
    """Which network turns images into feature maps. A field left at None is the network's own default."""

    name: str = "resnet50"
    """A registered backbone; `tools/list.py` names them."""
    weights: str | None = None
    """A file, or `torchvision/NAME[.WEIGHTS]` or `timm/NAME[.TAG]` to download; None starts from random."""
    norm: Literal["bn", "frozen_bn", "sync_bn", "gn"] | None = None
    """Normalisation layer."""
    frozen_stages: Natural | None = None
    """Stages that do not train: 1 is the stem, 2 the stem and the first stage (C2), up to 5."""
    output_stride: Literal[8, 16, 32] | None = None
    """Stride of C5; below 32 the last stages are dilated instead."""
    zero_init_last: bool | None = None
    """Start each residual branch at zero."""
    activation_checkpointing: bool | None = None
    """Recompute activations in the backward pass: less memory, more time."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Any other keyword of the backbone's factory."""

    def factory_options(self) -> dict[str, JsonValue]:
        """The keywords to call the factory with: what is set, without `name` and `weights`."""
        fields = self.model_dump(exclude={"name", "weights", "options"}, exclude_none=True)
        return {**fields, **self.options}


class FasterRCNNConfig(Section):
    """Faster R-CNN with FPN; the fields are the keywords of `heads.faster_rcnn.FasterRCNN`, and explained there."""

    name: Literal["faster_rcnn"] = "faster_rcnn"
    fpn_channels: Count = 256
    extra_level: Literal["pool", "c5", "p5"] = "pool"
    anchor_sizes: tuple[Positive, ...] = (32, 64, 128, 256, 512)
    aspect_ratios: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    rpn_pre_nms: Count = 2000
    rpn_post_nms: Count = 2000
    rpn_pre_nms_test: Count = 1000
    rpn_post_nms_test: Count = 1000
    rpn_nms_iou: Share = 0.7
    rpn_positive_iou: Share = 0.7
    rpn_negative_iou: Share = 0.3
    rpn_samples: Count = 256
    rpn_positive_fraction: Share = 0.5
    roi_samples: Count = 512
    roi_positive_fraction: Share = 0.25
    roi_positive_iou: Share = 0.5
    roi_size: Count = 7
    roi_sampling_ratio: Count = 2
    box_head_channels: Count = 1024
    box_loss: Literal["l1", "smooth_l1", "giou"] = "smooth_l1"
    box_loss_weight: NotNegative = 1.0
    class_agnostic: bool = False
    score_threshold: Share = 0.05
    nms_iou: Share = 0.5
    detections_per_image: Count = 100


class PluginHeadConfig(Section):
    """A head registered outside this repository: its name and the keywords of its factory."""

    name: str
    options: dict[str, JsonValue] = Field(default_factory=dict)


HeadConfig = FasterRCNNConfig | PluginHeadConfig


class ModelConfig(Section):
    """The whole network."""

    weights: Path | None = None
    """A state dict of a whole detector in torchvision's key layout, .safetensors or .pth."""


class AugmentConfig(Section):
    """Random changes to training images; validation images are only resized."""

    horizontal_flip: Share = 0.5
    """Probability."""
    vertical_flip: Share = 0.0
    """Probability."""
    colour: Share = 0.0
    """Strength of random brightness, contrast and saturation, 0 to 1; 0 is none."""
    scale_jitter: tuple[Positive, Positive] | None = None
    """Range of a further random factor on the size, e.g. (0.5, 2.0)."""
    crop: tuple[Count, Count] | None = None
    """Height and width in pixels of a random crop, taken after resizing."""


class DataConfig(Section):
    """Where images and annotations lie and how they become batches."""

    root: Path | None = None
    """Folder with COCO json or Pascal VOC data."""
    format: Literal["auto", "coco", "voc", "cells"] | str = "auto"
    """A registered reader; `auto` looks at the folder, `cells` is the generated sample."""
    train: str | None = None
    """Name of the training split; None finds it."""
    val: str | None = None
    """Name of the validation split; None finds it, or splits the training data."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the training images held out when there is no validation split."""
    group_by: str | None = None
    """Regular expression on the file name; images with an equal first group stay on one side of a made split."""
    short_side: Annotated[tuple[Count, ...], Field(min_length=1)] = (800,)
    """Short side of the resized image in pixels; several: training draws one an image, validation takes the last."""
    long_side: Count = 1333
    """The long side does not grow beyond this."""
    exif: Literal["auto", "apply", "ignore"] = "auto"
    """EXIF orientation: `auto` turns an image when its annotated size says the annotator saw it turned."""
    batch_size: Count = 16
    """Images an optimizer step, over all processes and accumulated passes."""
    workers: Natural = 2
    """Loader processes of each training process; the result does not depend on it."""
    augment: AugmentConfig = Field(default_factory=AugmentConfig)


class OptimizerConfig(Section):
    """How gradients change weights."""

    name: Literal["sgd", "adamw", "adam", "rmsprop"] = "sgd"
    lr: Positive = 0.02
    """Learning rate at the given batch size."""
    momentum: Momentum = 0.9
    """For sgd and rmsprop."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    """For adam and adamw."""
    weight_decay: NotNegative = 1e-4
    """L2 (decoupled for adamw); not on norms and biases."""
    l1: NotNegative = 0.0
    """Weight of the sum of absolute weights in the loss; not on norms and biases."""
    backbone_lr_factor: NotNegative = 1.0
    """The backbone learns at lr times this."""
    clip_grad_norm: Positive | None = None
    """Largest norm of all gradients together."""


class ScheduleConfig(Section):
    """How long to train and how the learning rate changes, in epochs."""

    epochs: Count = 12
    policy: Literal["milestones", "cosine", "polynomial", "constant"] = "milestones"
    milestones: tuple[NotNegative, ...] = (8, 11)
    """Epochs at which the rate is multiplied by gamma."""
    gamma: Positive = 0.1
    power: NotNegative = 0.9
    """Of the polynomial."""
    final_lr_factor: NotNegative = 0.0
    """Where cosine and polynomial end, as a share of the rate."""
    warmup_steps: Natural = 500
    """Optimizer steps over which the rate rises linearly from near zero."""


class RunnerConfig(Section):
    """The training run itself."""

    seed: int = 0
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 where the hardware multiplies it natively, else fp16 on CUDA, else fp32."""
    accumulate: Count = 1
    """Forward and backward passes a step is split into; the batch size stays what it is, memory shrinks."""
    ema_decay: Share | None = None
    """Keep an exponential moving average of the weights and evaluate that; 0.999, say."""
    evaluate_every: Count = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
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
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    runner: RunnerConfig = Field(default_factory=RunnerConfig)
