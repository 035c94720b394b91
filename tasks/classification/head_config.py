"""What an experiment says about heads that give labels, grades or numbers of images."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.config_section import Count, Finite, HeadSection, NotNegative, Positive


class ClassificationConfig(HeadSection):
    """Labels of whole images; the fields are the keywords of `heads.classification.Classification`."""

    name: Literal["classification"] = "classification"
    target: Literal["single", "multi", "ordinal", "regression"] = "single"
    level: str | None = None
    pooling: Literal["average", "max", "gem"] = "average"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    hidden_channels: tuple[Count, ...] = ()
    loss: Literal["auto", "cross_entropy", "bce", "focal", "coral", "smooth_l1", "mse"] = "auto"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    focal_gamma: NotNegative = 2.0
    target_threshold: Annotated[float, Field(ge=0, lt=1)] | None = None
    class_weights: tuple[NotNegative, ...] | Literal["balanced"] | None = None
    value_mean: tuple[Finite, ...] | None = None
    value_std: tuple[Positive, ...] | None = None
