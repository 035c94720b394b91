"""A network of one size under every setting that decides how large images are."""

import re

import pytest
from torch import Tensor, nn

from backbones import Backbone, FeatureSpec, UserError
from tasks.batch_sizes import require_batch_sizes
from tasks.config import Experiment


class OneSize(Backbone):
    """Takes 64 x 96 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.features = 3, {"c5": FeatureSpec(8, 32)}
        self.stem = nn.Conv2d(3, 8, 32, 32)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"c5": self.stem(images)}

    def require_size(self, height: int, width: int) -> None:
        if (height, width) != (64, 96):
            raise UserError(f"not {height} x {width}")


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"data": {"size": (64, 96)}}, None),
        ({"data": {"size": (40, 70)}}, None),  # padded
        ({"data": {"size": (64, 97)}}, "data.size: not 64 x 128"),
        ({"data": {"short_side": (64,), "long_side": 64}}, "data.short_side and data.long_side: not 64 x 64"),
        ({"data": {"size": (128, 128), "augment": {"crop": (64, 96)}}}, "data.size: not 128 x 128"),
        ({"data": {"size": (64, 96), "augment": {"crop": (32, 96)}}}, "data.augment.crop: not 32 x 96"),
        ({"data": {"size": (128, 128), "augment": {"crop": (64, 96)}}, "inference": {"window": (64, 96)}}, None),
        ({"data": {"size": (128, 128), "center_crop": (64, 96), "augment": {"crop": (64, 96)}}}, None),
        ({"data": {"size": (128, 128), "center_crop": (60, 60), "augment": {"random_resized_crop": (0.1, 1)}}},
         "data.augment.random_resized_crop: not 64 x 64"),
        ({"data": {"size": (64, 96), "augment": {"scale_jitter": (0.5, 1)}}}, "data.augment.scale_jitter: not 32 x 64"),
        ({"data": {"size": (64, 96), "augment": {"quarter_turns": True}}}, "data.augment.quarter_turns: not 96 x 64"),
        ({"data": {"size": (64, 96)}, "inference": {"scales": (1, 2)}}, "inference.scales: not 128 x 192"),
    ],
)  # fmt: skip
def test_sizes_that_a_network_does_not_take_are_refused(settings: dict[str, object], refusal: str | None) -> None:
    config = Experiment.model_validate(settings)
    if refusal is None:
        require_batch_sizes(OneSize(), config)
    else:
        with pytest.raises(UserError, match=re.escape(refusal)):
            require_batch_sizes(OneSize(), config)
