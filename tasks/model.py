"""One backbone, one or several heads, one pass through the backbone."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from backbones import Backbone, UserError, build_backbone
from heads import Head, Prediction, ScoringHead, heads
from tasks.batch_sizes import require_batch_sizes
from tasks.config import Experiment
from tasks.data.sample import Batch
from tasks.image_spec import ImageSpec
from tasks.label_map import LabelMap
from tasks.normalisation import Normalisation
from tasks.plugins import import_plugins


class Model(nn.Module):
    """The network as it is trained, saved and used.

    Args:
        backbone: gives the feature maps.
        heads: by the name that their losses and predictions carry.
        image: how stored pixels become network input; done here, on the device.
    """

    def __init__(self, backbone: Backbone, heads: Mapping[str, Head], image: ImageSpec) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.backbone_frozen = False
        self.normalisation = Normalisation(image)

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
        """Whether the backbone neither learns nor updates the statistics of its norms, until told otherwise."""
        self.backbone_frozen = frozen
        if frozen:
            self.backbone.eval()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of every head as `"<head>/<loss>"`: named scalars, in training and in evaluation mode alike."""
        features = self.features(batch)
        losses: dict[str, Tensor] = {}
        for name, head in self._heads():
            losses |= {
                f"{name}/{loss}": value for loss, value in head.loss(features, batch.sizes, batch.targets).items()
            }
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

    def _heads(self) -> list[tuple[str, Head]]:
        return [(name, head) for name, head in self.heads.items() if isinstance(head, Head)]


def build_model(config: Experiment, labels: Mapping[str, LabelMap]) -> Model:
    """The model of an experiment with random weights.

    Args:
        config: the experiment.
        labels: the classes of each head, by head name.

    Raises:
        UserError: an option, a level, or the size of the images does not fit.
    """
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
    return Model(backbone, built, image)
