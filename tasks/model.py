"""One backbone, one or several heads, one pass through the backbone."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Self

import torch
from torch import Tensor, nn

from backbones import Backbone, UserError, build_backbone
from heads import Head, Prediction, ScoringHead, Targets, heads
from tasks.batch_sizes import require_batch_sizes
from tasks.config import Experiment
from tasks.data.sample import Batch
from tasks.head_choice import learning_heads
from tasks.head_targets import targets_of_head
from tasks.image_spec import ImageSpec
from tasks.label_map import LabelMap
from tasks.loss_weights import LossWeights, annotated
from tasks.normalisation import Normalisation
from tasks.plugins import import_plugins


class Model(nn.Module):
    """The network as it is trained, saved and used.

    Args:
        backbone: gives the feature maps.
        heads: by the name that their losses and predictions carry.
        image: how stored pixels become network input; done here, on the device.
        loss_weights: weighs the losses of the heads; None leaves them as they are.
        train_only: the heads that learn; the backbone and all others keep their weights and running statistics, and the
            others give no losses. Empty: all learn.
        widths: columns of the label values, or planes of the masks, that a head learns from; needed where batches come
            from several data sets.
    """

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, Head],
        image: ImageSpec,
        loss_weights: LossWeights | None = None,
        train_only: Sequence[str] = (),
        widths: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.loss_weights = loss_weights
        self.image = image
        self.widths = dict(widths or {})
        self.normalisation = Normalisation(image)
        self.train_only = frozenset(train_only)
        self.backbone_frozen = bool(train_only)
        for module in self._at_rest():
            module.requires_grad_(False)

    @property
    def divisor(self) -> int:
        """Batches are padded to a multiple of this."""
        return self.backbone.divisor

    def network_input(self, batch: Batch) -> Tensor:
        """(B, C, H, W) normalised images of a batch, a new tensor; padding is exactly zero."""
        images: Tensor = self.normalisation(batch.images)
        height, width = batch.sizes.padded
        inside_rows = torch.arange(height, device=images.device) < batch.sizes.valid[:, :1]
        inside_columns = torch.arange(width, device=images.device) < batch.sizes.valid[:, 1:]
        inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
        return images.masked_fill_(~inside, 0).contiguous(memory_format=torch.channels_last)

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Feature maps of a batch."""
        images = self.network_input(batch)
        with torch.no_grad() if self.backbone_frozen else nullcontext():
            features: dict[str, Tensor] = self.backbone(images)
        return features

    def freeze_backbone(self, frozen: bool) -> None:
        """Whether the backbone neither learns nor updates the statistics of its norms, until told otherwise.

        With `train_only` it never does.
        """
        self.backbone_frozen = frozen or bool(self.train_only)
        if self.backbone_frozen:
            self.backbone.eval()

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; what `train_only` leaves out stays in evaluation mode."""
        super().train(mode)
        for module in self._at_rest():
            module.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of every head that learns as `"<head>/<loss>"`: named scalars, in training and in evaluation mode
        alike, weighted; and what `LossWeights` adds."""
        features = self.features(batch)
        losses: dict[str, Tensor] = {}
        for name, head in self._heads():
            if self.train_only and name not in self.train_only:
                continue
            targets = self._targets(name, batch)
            own = head.loss(features, batch.sizes, targets)
            if self.loss_weights is not None:
                own = self.loss_weights(name, own, annotated(targets, head.reads))
            losses |= {f"{name}/{loss}": value for loss, value in own.items()}
        return losses

    def predict(self, batch: Batch) -> dict[str, Sequence[Prediction]]:
        """Predictions of every head by its name, one an image, in pixels of the original images."""
        features = self.features(batch)
        return {name: head.predict(features, batch.sizes) for name, head in self._heads()}

    def scores(self, batch: Batch) -> dict[str, Tensor]:
        """Scores of the heads that give them, by name: what their predictions are decided from."""
        features = self.features(batch)
        return {name: head.scores(features, batch.sizes) for name, head in self.scoring_heads().items()}

    def scoring_heads(self) -> dict[str, ScoringHead]:
        """The heads that give scores."""
        return {name: head for name, head in self.heads.items() if isinstance(head, ScoringHead)}

    def part(self, names: Collection[str]) -> "Model":
        """A model of some of the heads, which shares its modules with this one."""
        part = Model(self.backbone, {name: head for name, head in self._heads() if name in names}, self.image)
        part.normalisation = self.normalisation
        return part

    def _targets(self, name: str, batch: Batch) -> Targets:
        """Targets of a batch as a head sees them."""
        if batch.fed is None:
            return batch.targets
        learning = [head for head in self.heads if not self.train_only or head in self.train_only]
        reads = dict(self._heads())[name].reads
        return targets_of_head(batch.targets, batch.fed[:, learning.index(name)], reads, self.widths[name])

    def _at_rest(self) -> list[nn.Module]:
        """What never learns because of `train_only`."""
        if not self.train_only:
            return []
        return [self.backbone, *(head for name, head in self.heads.items() if name not in self.train_only)]

    def _heads(self) -> list[tuple[str, Head]]:
        return [(name, head) for name, head in self.heads.items() if isinstance(head, Head)]


def build_model(config: Experiment, labels: Mapping[str, LabelMap]) -> Model:
    """The model of an experiment with random weights.

    Args:
        config: the experiment.
        labels: the classes of each head, by head name.

    Raises:
        UserError: an option, a level, the size of the images, or a name of a head somewhere does not fit.
    """
    learning = learning_heads(config)
    import_plugins(config.plugins)
    image = config.image
    image.require_complete()
    if not config.heads:
        raise UserError("heads is empty; a config needs at least one head, such as heads={'boxes': FasterRCNNConfig()}")
    backbone = build_backbone(config.backbone.name, in_channels=image.channels, **config.backbone.factory_options())
    require_batch_sizes(backbone, config)
    built: dict[str, Head] = {}
    for name, head in config.heads.items():
        built[name] = heads.build(head.name, backbone.features, len(labels[name]), **head.factory_options())
    loss_weights = LossWeights.of(config.losses, built, learning)
    return Model(backbone, built, image, loss_weights, config.model.train_only, _widths(config, labels))


def _widths(config: Experiment, labels: Mapping[str, LabelMap]) -> dict[str, int]:
    """As many as there are classes, but one plane where they do not overlap."""
    planes = {name: head.factory_options().get("target") == "multilabel" for name, head in config.heads.items()}
    reads = {name: getattr(heads.factory(head.name), "reads", None) for name, head in config.heads.items()}
    return {name: len(labels[name]) if reads[name] == "labels" or planes[name] else 1 for name in config.heads}
