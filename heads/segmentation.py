"""What all segmentation heads have in common: a decoder, logits in the size of the batch, losses and masks.

Shapes: B images, K classes, S channels of scores, H W pixels of the padded batch.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.contract import FeatureSpec
from heads.contract import (
    IGNORED,
    Explainable,
    ImageSizes,
    MaskTargets,
    Prediction,
    ScoringHead,
    SemanticMasks,
    Targets,
)
from heads.dense_gradients import DenseGradients, dense_gradient
from heads.option_checks import require
from heads.segmentation_losses import LossName, SegmentationLosses, SegmentationTarget
from heads.shared_options import share_options

CROSS_ENTROPY_AND_DICE: Mapping[LossName, float] = MappingProxyType({"cross_entropy": 1.0, "dice": 1.0})


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder in the form of segmentation-models-pytorch's, and what is around it.

    Attributes:
        module: takes a list of maps, finest first, and returns one.
        levels: names of the maps.
        unread: entries of the list before them that the decoder skips, or only takes the size of: that of the batch.
        channels: of what it returns.
        kernel_size: of the convolution that turns this into logits.
        upsampling: factor from there to the size of the batch.
    """

    module: nn.Module
    levels: tuple[str, ...]
    unread: int
    channels: int
    kernel_size: int
    upsampling: int


class SegmentationHead(ScoringHead, Explainable):
    """The class of every pixel. A subclass brings the decoder; these are the options of all of them.

    Modules and weights are segmentation-models-pytorch's, so that the part of a state dict of one of its models that
    starts with `decoder` and `segmentation_head` loads as it is. Logits are brought to the size of the batch as it
    does it, bilinear with aligned corners, in float32. The batch must be a multiple of the largest stride.

    Training with a single image: where a batch norm has no more than one value a channel, as behind a global pooling,
    it has nothing to take statistics of; there it applies its running ones, and leaves them as they are. With any
    other batch nothing differs from plain batch norm.

    Args:
        features: of the backbone.
        num_classes: K, without background.
        decoder: what turns levels of it into the map that logits are made of.
        target: `multiclass`: each pixel has one class, softmax. `binary`: one class or not, one sigmoid. `multilabel`:
            classes may overlap, a sigmoid each.
        background: multiclass: a pixel may also be none of the classes, which is channel 0. Without, every pixel
            belongs to a class, and those of the background (0 in masks) are ignored in the loss.
        losses: weight of each loss, by name: cross_entropy, dice, focal, tversky, lovasz, boundary; 0 is off;
            see `SegmentationLosses`.
        focal_gamma: how much the focal loss turns from pixels that are right already.
        tversky_alpha: weight of false positives in the Tversky loss.
        tversky_beta: weight of false negatives in it.
        class_weights: in cross_entropy and focal, as numbers. Multiclass: of the pixels of each class, that of the
            background first where there is one; only their ratio matters. Else: of the pixels inside each class, those
            outside weigh 1.
        auxiliary_weight: factor on the losses of a second, small head on the level before the last that the decoder
            reads, which helps deep backbones learn (PSPNet, arXiv:1612.01105, section 3.3, takes 0.4). It takes no
            part in predictions; 0 is none.
        threshold: binary and multilabel: a pixel belongs to a class whose probability is larger, 0 .. 1.

    Raises:
        UserError: the backbone lacks a level or stride, or an option is out of range.
    """

    reads = "masks"
    name: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        share_options(cls)

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        decoder: Decoder,
        *,
        target: SegmentationTarget = "multiclass",
        background: bool = True,
        losses: Mapping[LossName, float] = CROSS_ENTROPY_AND_DICE,
        focal_gamma: float = 2.0,
        tversky_alpha: float = 0.3,
        tversky_beta: float = 0.7,
        class_weights: tuple[float, ...] | None = None,
        auxiliary_weight: float = 0.0,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        from segmentation_models_pytorch.base import SegmentationHead as Logits
        from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head

        self.target, self.background, self.threshold = target, background, threshold
        self.channels = num_classes + (target == "multiclass" and background)
        self._require_target(num_classes)
        losses = {loss: weight for loss, weight in losses.items() if weight}
        self._require_losses(losses, class_weights, tversky_alpha + tversky_beta)

        self.levels, self.unread = decoder.levels, decoder.unread
        self.decoder = decoder.module
        self.segmentation_head = Logits(
            decoder.channels, self.channels, kernel_size=decoder.kernel_size, upsampling=decoder.upsampling
        )
        initialize_decoder(self.decoder)
        initialize_head(self.segmentation_head)
        self.auxiliary_weight = auxiliary_weight
        self.auxiliary: nn.Sequential | None = None
        if auxiliary_weight:
            names, last = list(features), decoder.levels[-1]
            before = names.index(last) - 1
            require(self.name, "auxiliary_weight", auxiliary_weight, before >= 0, f"0: no level is finer than {last}")
            self.auxiliary_level = names[before]
            self.auxiliary = fcn_head(features[names[before]].channels, self.channels)
        _allow_single_values(self)
        self.losses = SegmentationLosses(
            losses,
            target=target,
            background=background,
            focal_gamma=focal_gamma,
            tversky_alpha=tversky_alpha,
            tversky_beta=tversky_beta,
            class_weights=class_weights,
        )

    def _require_target(self, num_classes: int) -> None:
        known, most = get_args(SegmentationTarget), IGNORED - 1
        require(self.name, "target", self.target, self.target in known, f"one of {', '.join(known)}")
        require(self.name, "num_classes", num_classes, 1 <= num_classes <= most, f"1 to {most}, what a mask can hold")
        if self.target == "binary":
            expected = f"multiclass or multilabel for {num_classes} classes"
            require(self.name, "target", self.target, num_classes == 1, expected)
        if self.target == "multiclass" and not self.background:
            require(self.name, "background", False, num_classes > 1, "True for a single class, or target binary")

    def _require_losses(
        self, losses: Mapping[LossName, float], class_weights: tuple[float, ...] | None, tversky: float
    ) -> None:
        known = ", ".join(get_args(LossName))
        require(self.name, "losses", dict(losses), bool(losses), f"a weight above 0 for at least one of {known}")
        for loss, weight in losses.items():
            require(self.name, "losses", loss, loss in get_args(LossName), f"names among {known}")
            require(self.name, f"losses.{loss}", weight, weight > 0, "a weight of 0 or more")
        if "tversky" in losses:
            require(self.name, "tversky_alpha + tversky_beta", tversky, tversky > 0, "a number above 0")
        if class_weights is not None:
            first = " (background first)" if self.target == "multiclass" and self.background else ""
            fits = len(class_weights) == self.channels and sum(class_weights) > 0
            require(self.name, "class_weights", class_weights, fits, f"{self.channels} numbers{first}, not all 0")
            weighed = bool({"cross_entropy", "focal"} & losses.keys())
            expected = "None, since neither cross_entropy nor focal is among the losses"
            require(self.name, "class_weights", class_weights, weighed, expected)

    def loss(self, features: dict[str, Tensor], images: ImageSizes, targets: Targets) -> dict[str, Tensor]:
        """The losses by name, weighted, scalars of float32; those of the auxiliary head as `aux_<name>`.

        All are zero, and connected to the graph, when no image is annotated.
        """
        masks = self._masks(targets.masks, images)
        losses: dict[str, Tensor] = self.losses(self.logits(features, images), masks)
        if self.auxiliary is not None:
            coarse = self.auxiliary(features[self.auxiliary_level]).float()
            logits = F.interpolate(coarse, images.padded, mode="bilinear", align_corners=False)
            auxiliary = self.losses(logits, masks).items()
            losses |= {f"aux_{name}": self.auxiliary_weight * value for name, value in auxiliary}
        return losses

    def scores(self, features: dict[str, Tensor], images: ImageSizes) -> Tensor:
        """(B, S, H, W) float32 probabilities. S is K + 1 for multiclass with background, channel 0; else K."""
        logits = self.logits(features, images)
        return logits.softmax(dim=1) if self.target == "multiclass" else logits.sigmoid()

    def decide(self, scores: Tensor, images: ImageSizes) -> list[SemanticMasks]:
        """Masks in pixels of the original images; the scores are resized, bilinear, before the decision."""
        predictions = []
        for score, valid, original in zip(scores, images.valid.tolist(), images.original.tolist(), strict=True):
            inside = score[None, :, : valid[0], : valid[1]]
            resized = F.interpolate(inside, original, mode="bilinear", align_corners=False)[0]
            if self.target == "multiclass":
                masks = resized.argmax(dim=0, keepdim=True) + (not self.background)
            else:
                masks = resized > self.threshold
            predictions.append(SemanticMasks(masks.to(torch.uint8)))
        return predictions

    def logits(self, features: dict[str, Tensor], images: ImageSizes) -> Tensor:
        """(B, S, H, W) float32."""
        maps = [dense_gradient(features[level]) for level in self.levels]
        placeholder = maps[0].new_empty(maps[0].shape[0], 0, *images.padded)
        with DenseGradients() if torch.is_grad_enabled() else nullcontext():
            decoded = self.decoder([placeholder] * self.unread + maps)
        convolution, upsampling, _ = self.segmentation_head
        # What is interpolated in bf16 comes out in steps.
        logits: Tensor = upsampling(convolution(decoded).float())
        return logits

    def class_logits(
        self, features: dict[str, Tensor], images: ImageSizes, predictions: Sequence[Prediction]
    ) -> list[Tensor]:
        """(K, H, W) an image, the logits without that of the background."""
        first = int(self.target == "multiclass" and self.background)
        return list(self.logits(features, images)[:, first:])

    def _masks(self, targets: MaskTargets | None, images: ImageSizes) -> Tensor:
        """(B, P, H, W) uint8 in which images that are not annotated are ignored."""
        planes = self.channels if self.target == "multilabel" else 1
        if targets is None:
            shape = (len(images), planes, *images.padded)
            return torch.full(shape, IGNORED, dtype=torch.uint8, device=images.valid.device)
        return targets.masks.masked_fill(~targets.annotated.view(-1, 1, 1, 1), IGNORED)


def fcn_head(in_channels: int, channels: int) -> nn.Sequential:
    """Two convolutions (Long et al., arXiv:1411.4038), laid out as torchvision's `FCNHead`; height and width stay."""
    hidden = max(1, in_channels // 4)
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 3, padding=1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        nn.Conv2d(hidden, channels, 1),
    )


class SingleValueBatchNorm(nn.BatchNorm2d):
    """BatchNorm that applies its running statistics where a channel has a single value, in training too."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def _allow_single_values(module: nn.Module) -> None:
    """Replace every new BatchNorm2d below `module` by a `SingleValueBatchNorm`."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, SingleValueBatchNorm(child.num_features, child.eps, child.momentum))
        else:
            _allow_single_values(child)
