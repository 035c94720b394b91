"""What every head promises, and what it is given: image sizes, targets, predictions.

Shapes: B images, C channels, H W pixels, N boxes, K classes, A anchors.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from backbones.contract import FeatureSpec
from backbones.errors import UserError
from backbones.registry import Registry


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """Sizes of the images of one padded batch, in pixels, as (height, width).

    Attributes:
        padded: H, W of the batch tensor.
        valid: (B, 2) int64, the part of it, from the top left corner, that holds each image.
        original: (B, 2) int64, each image before it was resized; predictions are returned in these pixels.
    """

    padded: tuple[int, int]
    valid: Tensor
    original: Tensor

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def to_original(self) -> Tensor:
        """(B, 4) float32 factors that turn boxes in pixels of the batch into boxes in pixels of the original images."""
        return (self.original.float() / self.valid.float()).flip(1).repeat(1, 2)


@dataclass(frozen=True, slots=True)
class Outlines:
    """Which pixels belong to each annotated object of a batch, eight in a byte: an image of 800 x 1333 pixels with 60
    objects takes 8 MB.

    Attributes:
        bits: (B, N, H, ceil(W / 8)) uint8 in pixels of the padded batch, as `numpy.packbits` along a row: the leftmost
            of eight pixels is the highest bit; zero outside an object and where padded. An object without an outline
            fills its box.
        known: (B, N) bool; False where an object has a box but no outline, and where padded. It adds nothing to a loss
            of masks.
    """

    bits: Tensor
    known: Tensor


@dataclass(frozen=True, slots=True)
class BoxTargets:
    """Annotated boxes of a batch, padded to the fullest image (N may be 0).

    Attributes:
        boxes: (B, N, 4) float32, x1 y1 x2 y2 in pixels of the padded batch; zeros where padded.
        labels: (B, N) int64, 0 .. K-1; -1 where padded.
        crowd: (B, N) bool, the box marks a crowd: nothing inside it is background, nothing is matched to it.
        annotated: (B,) bool, the image was searched for boxes; False adds nothing to a loss.
        outlines: of the same objects; None where no head asked for them, see `Head.reads_outlines`.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    annotated: Tensor
    outlines: Outlines | None = None


@dataclass(frozen=True, slots=True)
class LabelTargets:
    """What is known about each image as a whole.

    Attributes:
        values: (B, K) float32. Classes: the share of each one, a single 1 in a row for a plain label, several shares
            that add up to 1 where images were mixed, any number of 1s for multi-label data. Regression: the numbers.
        annotated: (B,) bool; False adds nothing to a loss.
    """

    values: Tensor
    annotated: Tensor


@dataclass(frozen=True, slots=True)
class MaskTargets:
    """The class of every pixel of a batch.

    Attributes:
        masks: (B, P, H, W) uint8 in pixels of the padded batch. One plane (P = 1): 0 is background, k + 1 is class k.
            A plane for each class (P = K), where classes may overlap: 1 inside, 0 outside. `IGNORED` where nobody
            knows, and in the padding.
        annotated: (B,) bool; False adds nothing to a loss.
    """

    masks: Tensor
    annotated: Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """Everything a head may learn from; a head reads its own part and ignores the rest.

    Attributes:
        seeds: (B,) int64, the key of each image's random draws in this epoch. A head that samples derives its draws
            from these alone, so that they depend neither on the batch, the process, nor on what ran before.
        boxes: for detection heads.
        labels: for classification and regression heads.
        masks: for semantic segmentation heads.
    """

    seeds: Tensor
    boxes: BoxTargets | None = None
    labels: LabelTargets | None = None
    masks: MaskTargets | None = None


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes found in one image, best first.

    Attributes:
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the original image.
        scores: (N,) float32, 0 .. 1.
        labels: (N,) int64, 0 .. K-1.
        masks: (N, M, M) float32, 0 .. 1, from heads that find instances: how likely each of M x M equal cells of the
            box belongs to the object; None from the others. `FoundBoxes` of `tasks` makes masks of the image of
            them.
        image_size: (height, width) of the original image, where there are masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None
    image_size: tuple[int, int] | None = None

    def chosen(self, kept: Tensor) -> "Detections":
        """Only those where `kept` (N,) bool is True."""
        masks = None if self.masks is None else self.masks[kept]
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept], masks, self.image_size)


@dataclass(frozen=True, slots=True)
class PaddedDetections:
    """Boxes found in the images of a batch, best first, padded to the same number D in each.

    Attributes:
        boxes: (B, D, 4) float32, x1 y1 x2 y2 in pixels of the padded batch; zeros where padded.
        scores: (B, D) float32, 0 .. 1; 0 where padded.
        labels: (B, D) int64, 0 .. K-1; 0 where padded.
        masks: (B, D, M, M) float32 as in `Detections`, of any content where padded; None from heads without.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None


LabelKind = Literal["single", "multi", "ordinal", "regression"]


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """What was predicted of one image as a whole.

    Attributes:
        scores: (K,) float32: the probability of each class, or the numbers of a regression.
        target: which of these they are, and how classes follow from probabilities: "single", the most probable;
            "ordinal", the median of classes in order; "multi", all with at least 0.5.
    """

    scores: Tensor
    target: LabelKind = "single"


@dataclass(frozen=True, slots=True)
class SemanticMasks:
    """The class of every pixel of one image.

    Attributes:
        masks: (P, H, W) uint8 in pixels of the original image, planes as in `MaskTargets`; never `IGNORED`.
    """

    masks: Tensor


Prediction = Detections | ImageLabels | SemanticMasks


Reads = Literal["boxes", "labels", "masks"]
IGNORED = 255  # a pixel of a mask that takes no part in a loss or metric


class Head(nn.Module, ABC):
    """Turns feature maps into losses or predictions. It owns its neck.

    A constructor takes `(features, num_classes, **options)`, reads channels and strides from `features`, and raises
    `UserError` when a level or stride it needs is missing.

    Attributes:
        reads: the part of `Targets` it learns from: the field's name.
        reads_outlines: whether it learns from the outlines of boxed objects too, which take time and memory to load.
            Its detections have masks.
    """

    reads: ClassVar[Reads]
    reads_outlines: ClassVar[bool] = False

    @abstractmethod
    def loss(self, features: dict[str, Tensor], images: ImageSizes, targets: Targets) -> dict[str, Tensor]:
        """Named scalar losses, always all of them; an image without targets of this head's kind adds zero."""

    @abstractmethod
    def predict(self, features: dict[str, Tensor], images: ImageSizes) -> Sequence[Prediction]:
        """One prediction an image, in pixels of the original image."""


class ScoringHead(Head):
    """A head whose predictions are decided from an array of scores.

    Scores of the same image can be averaged: over overlapping windows, over mirrored and scaled copies, over the
    models of an ensemble.
    """

    @abstractmethod
    def scores(self, features: dict[str, Tensor], images: ImageSizes) -> Tensor:
        """Probabilities, or numbers of a regression: (B, K) of images, or (B, S, H, W) of the pixels of the padded
        batch, S channels as the head defines them; float32.
        """

    @abstractmethod
    def decide(self, scores: Tensor, images: ImageSizes) -> Sequence[Prediction]:
        """One prediction an image from `scores`, in pixels of the original image."""

    def predict(self, features: dict[str, Tensor], images: ImageSizes) -> Sequence[Prediction]:
        return self.decide(self.scores(features, images), images)


class PaddedDetector(ABC):
    """What a head that finds boxes adds so that it can be exported: a graph whose shapes do not depend on findings."""

    @abstractmethod
    def predict_padded(self, features: dict[str, Tensor], images: ImageSizes) -> PaddedDetections:
        """The detections of `predict`; `images.padded` may be symbolic, and `images.original` is not read."""


class Explainable(ABC):
    """What a head adds so that its predictions can be explained: the numbers that they were decided from."""

    @abstractmethod
    def class_logits(
        self, features: dict[str, Tensor], images: ImageSizes, predictions: Sequence[Prediction]
    ) -> Sequence[Tensor]:
        """How much speaks for each class, before any softmax or sigmoid; differentiable in `features`, float32.

        Args:
            features: of the images, or of altered copies of them.
            images: their sizes.
            predictions: one an image, which say where to look.

        Returns:
            One an image: (K,) of labels, (K, H, W) of masks in pixels of the padded batch, (N, K) of boxes where these
            are, whatever the head would find now. Numbers of a regression stand for logits.
        """


def require_levels(head: str, features: Mapping[str, FeatureSpec], needed: tuple[str, ...]) -> None:
    """Raise `UserError` naming the levels that `head` needs and the backbone lacks."""
    missing = [level for level in needed if level not in features]
    if missing:
        raise UserError(
            f"{head} needs the levels {', '.join(needed)}; the backbone gives {', '.join(features)}, "
            f"so {', '.join(missing)} is missing"
        )


heads: Registry[Head] = Registry("head", "polyhead.heads")
register_head = heads.register
