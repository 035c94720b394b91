"""Labels and numbers of whole images: pooled features and fully connected layers."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.contract import FeatureSpec
from backbones.errors import UserError
from heads.contract import (
    Explainable,
    ImageLabels,
    ImageSizes,
    LabelKind,
    Prediction,
    ScoringHead,
    Targets,
    register_head,
    require_levels,
)
from heads.label_loss import coral_loss, sigmoid_loss, smooth, softmax_loss
from heads.normaliser import mean_count
from heads.pooling import MaskedPooling, PoolingKind
from heads.sampling import priorities

LabelLoss = Literal["auto", "cross_entropy", "bce", "focal", "coral", "smooth_l1", "mse"]
# Of each target, the one that "auto" stands for first.
LOSSES: dict[LabelKind, tuple[LabelLoss, ...]] = {
    "single": ("cross_entropy", "focal", "bce"),
    "multi": ("bce", "focal"),
    "ordinal": ("coral",),
    "regression": ("smooth_l1", "mse"),
}
DROPOUT_PURPOSE = 100  # of the first dropout; the next ones follow


@register_head("classification")
class Classification(ScoringHead, Explainable):
    """K classes, ranks or numbers of each image, from one feature map: pooling, hidden layers if any, one linear layer.

    With average pooling and no hidden layers it is the classifier of torchvision's ResNets, whose `fc.weight` and
    `fc.bias` are `linear.weight` and `linear.bias` here; `heads.classifier_layouts.split_classifier`
    renames them. It computes in float32 under autocast too: it costs next to nothing, and a bfloat16 probability or
    number has only three digits.

    Args:
        features: of the backbone.
        num_classes: K.
        target: what a label is. `single`: one of K classes. `multi`: any number of them. `ordinal`: one of K classes in
            order, such as grades, by CORAL (Cao et al., arXiv:1901.07884): one score and K - 1 thresholds, so that the
            probability of being above a rank falls from rank to rank. `regression`: K numbers.
        level: feature map to read; None is the deepest.
        pooling: `average`, `max` or `gem`, see `MaskedPooling`.
        dropout: share of the inputs of every fully connected layer that is zeroed in training, drawn from each image's
            own seed.
        hidden_channels: widths of hidden layers, each followed by a ReLU.
        loss: `cross_entropy`, `focal` or `bce` of single, `bce` or `focal` of multi, `coral` of ordinal, `smooth_l1` or
            `mse` of regression; `auto` is the first. See `heads.label_loss`. `bce` of single asks of each class whether
            it is there (Wightman et al., arXiv:2110.00476, section 2.1); scores are a softmax all the same.
        label_smoothing: of single and multi.
        focal_gamma: exponent of `focal`; 0 makes it the plain loss.
        target_threshold: of `bce`: a class with more than this share of a mixed label is there, others are not; None
            takes the shares as they are.
        class_weights: K factors: on the terms of each class (single), of the images that have it (multi, ordinal).
        value_mean: K means of the numbers of a regression in the training data.
        value_std: K standard deviations of them. The layer gives, and the loss compares, numbers minus mean over
            standard deviation, so that one learning rate suits years and micrometres alike. Both are in the state dict,
            without which the layer's numbers would mean nothing. None does not scale.

    Raises:
        UserError: the backbone lacks the level, or options do not go together.
    """

    reads = "labels"
    class_weights: Tensor
    value_mean: Tensor
    value_std: Tensor

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        target: LabelKind = "single",
        level: str | None = None,
        pooling: PoolingKind = "average",
        dropout: float = 0.0,
        hidden_channels: tuple[int, ...] = (),
        loss: LabelLoss = "auto",
        label_smoothing: float = 0.0,
        focal_gamma: float = 2.0,
        target_threshold: float | None = None,
        class_weights: tuple[float, ...] | None = None,
        value_mean: tuple[float, ...] | None = None,
        value_std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.target, self.level = target, list(features)[-1] if level is None else level
        require_levels("classification", features, (self.level,))
        _require_one_of("target", target, get_args(LabelKind))
        _require_one_of("pooling", pooling, get_args(PoolingKind))
        _require_one_of(f"loss of target {target!r}", loss, ("auto", *LOSSES[target]))
        for option, value in (("dropout", dropout), ("label_smoothing", label_smoothing)):
            if not 0 <= value < 1:
                raise UserError(f"classification: {option} is {value}; expected 0 or more and less than 1")
        _require_fitting(target, num_classes, label_smoothing, class_weights, value_mean, value_std)
        self.loss_kind = LOSSES[target][0] if loss == "auto" else loss
        self.dropout, self.label_smoothing = dropout, label_smoothing
        self.gamma = focal_gamma if self.loss_kind == "focal" else 0.0
        if target_threshold is not None and self.loss_kind != "bce":
            raise UserError(
                f"classification: target_threshold is {target_threshold:g}, but the loss is {self.loss_kind!r}, which "
                "has no use for it; set it to None, or loss to 'bce'"
            )
        self.target_threshold = target_threshold
        spec = features[self.level]
        self.pool = MaskedPooling(pooling, spec.stride)
        widths = (spec.channels, *hidden_channels)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        ordinal = target == "ordinal"
        self.linear = nn.Linear(widths[-1], 1 if ordinal else num_classes, bias=not ordinal)
        if ordinal:
            # From 1 down to 1 / (K - 1): in order from the first step on.
            self.thresholds = nn.Parameter(torch.arange(num_classes - 1, 0, -1) / (num_classes - 1))
        # Chosen by the config, which a checkpoint holds as well: not a weight.
        self.register_buffer("class_weights", torch.tensor(class_weights or (1.0,) * num_classes), persistent=False)
        if target == "regression":
            self.register_buffer("value_mean", torch.tensor(value_mean or (0.0,) * num_classes))
            self.register_buffer("value_std", torch.tensor(value_std or (1.0,) * num_classes))

    def loss(self, features: dict[str, Tensor], images: ImageSizes, targets: Targets) -> dict[str, Tensor]:
        """One scalar, float32, by the name of the loss: its mean over the annotated images of all processes.

        It is zero, and connected to the graph, when no image is annotated.
        """
        with torch.autocast(images.valid.device.type, enabled=False):
            outputs = self._outputs(features, images, targets.seeds)
            if targets.labels is None:
                values, annotated = (
                    torch.zeros_like(self.class_weights).expand(len(images), -1),
                    outputs.new_zeros(1).bool(),
                )
            else:
                values, annotated = targets.labels.values.float(), targets.labels.annotated
            # What an image without labels brings may be no number at all, which times zero is none either.
            each = self._loss(outputs, torch.where(annotated[:, None], values, 0.0))
            count = mean_count(annotated.sum().float())
            return {f"loss_{self.loss_kind}": torch.where(annotated, each, 0.0).sum() / count}

    def scores(self, features: dict[str, Tensor], images: ImageSizes) -> Tensor:
        """(B, K) float32: probabilities, in rows that add up to 1 unless the target is `multi`; numbers as annotated
        if it is `regression`.
        """
        with torch.autocast(images.valid.device.type, enabled=False):
            outputs = self._outputs(features, images, None)
            match self.target:
                case "single":
                    return outputs.softmax(dim=1)
                case "multi":
                    return outputs.sigmoid()
                case "regression":
                    return outputs * self.value_std + self.value_mean
            # Thresholds learn to be in order but may cross on the way, where a difference would be negative.
            above = F.pad(outputs.sigmoid().cummin(dim=1).values, (1, 0), value=1.0)
            return above - F.pad(above[:, 1:], (0, 1))

    def decide(self, scores: Tensor, images: ImageSizes) -> Sequence[ImageLabels]:
        """The scores of each image; what follows from them is told by `ImageLabels.target`."""
        return [ImageLabels(row, self.target) for row in scores]

    def class_logits(
        self, features: dict[str, Tensor], images: ImageSizes, predictions: Sequence[Prediction]
    ) -> list[Tensor]:
        """(K,) an image. Of `ordinal`: of being at least that class; of the lowest one, of being no higher."""
        with torch.autocast(images.valid.device.type, enabled=False):
            outputs = self._outputs(features, images, None)
        return list(torch.cat((-outputs[:, :1], outputs), dim=1) if self.target == "ordinal" else outputs)

    def _outputs(self, features: dict[str, Tensor], images: ImageSizes, seeds: Tensor | None) -> Tensor:
        """(B, K) logits or scaled numbers; (B, K - 1) logits of being above each rank for `ordinal`."""
        vector = self.pool(features[self.level], images.valid)
        for number, layer in enumerate(self.hidden):
            vector = F.relu(layer(self._drop(vector, seeds, number)))
        outputs: Tensor = self.linear(self._drop(vector, seeds, len(self.hidden)))
        return outputs + self.thresholds if self.target == "ordinal" else outputs

    def _drop(self, vector: Tensor, seeds: Tensor | None, number: int) -> Tensor:
        """Dropout (Srivastava et al., 2014) in which neither the batch nor the process changes what is zeroed."""
        if not (self.training and self.dropout and seeds is not None):
            return vector
        elements = torch.arange(vector.shape[1], device=vector.device)
        kept = priorities(seeds, DROPOUT_PURPOSE + number, elements) >= int(self.dropout * (1 << 62))
        return vector * kept / (1 - self.dropout)

    def _loss(self, outputs: Tensor, values: Tensor) -> Tensor:
        """(B,) of outputs and `LabelTargets.values`."""
        if self.target_threshold is not None:
            values = (values > self.target_threshold).float()
        match self.target:
            case "single" if self.loss_kind == "bce":
                return sigmoid_loss(outputs, smooth(values, self.label_smoothing), self.class_weights, 0.0, 0.0)
            case "single":
                return softmax_loss(outputs, values, self.class_weights, self.label_smoothing, self.gamma)
            case "multi":
                return sigmoid_loss(outputs, values, self.class_weights, self.label_smoothing, self.gamma)
            case "ordinal":
                return coral_loss(outputs, values, self.class_weights)
        distance = F.smooth_l1_loss if self.loss_kind == "smooth_l1" else F.mse_loss
        return distance(outputs, (values - self.value_mean) / self.value_std, reduction="none").mean(dim=1)


def _require_one_of(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UserError(f"classification: {what} is {value!r}; expected {' or '.join(map(repr, known))}")


def _require_fitting(
    target: LabelKind,
    num_classes: int,
    label_smoothing: float,
    class_weights: Sequence[float] | None,
    value_mean: Sequence[float] | None,
    value_std: Sequence[float] | None,
) -> None:
    """Raise `UserError` for an option that its target has no use for, or of another length than there are classes."""
    if target in ("single", "ordinal") and num_classes < 2:
        raise UserError(
            f"classification: target {target!r} needs at least 2 classes and has {num_classes}; "
            "add the other class to the data, or use target 'multi' for one that is there or not"
        )
    if label_smoothing and target not in ("single", "multi"):
        raise UserError(
            f"classification: label_smoothing is {label_smoothing:g}, but target {target!r} has no use for it; "
            "set it to 0"
        )
    if class_weights is not None and target == "regression":
        raise UserError("classification: class_weights are set, but target 'regression' has no classes; leave them out")
    if (value_mean is not None or value_std is not None) and target != "regression":
        raise UserError(
            f"classification: value_mean and value_std are for target 'regression', not {target!r}; leave them out"
        )
    for name, given in (("class_weights", class_weights), ("value_mean", value_mean), ("value_std", value_std)):
        if given is not None and len(given) != num_classes:
            raise UserError(f"classification: {name} is {given!r}; expected {num_classes} numbers, one for each class")
    if value_std is not None and min(value_std) <= 0:
        raise UserError(f"classification: value_std is {value_std!r}; expected numbers above 0")
    if class_weights is not None and min(class_weights) < 0:
        raise UserError(f"classification: class_weights is {class_weights!r}; expected no number below 0")
