"""The mean and spread of regressed numbers in the training data, which a head scales them by."""

import numpy as np

from tasks.classification.truth import KnownLabels
from tasks.config import ClassificationConfig, Experiment
from tasks.data.annotations import Annotations
from tasks.head_choice import learning_heads


def set_value_scale(config: Experiment, annotations: Annotations) -> None:
    """Fill in `value_mean` and `value_std` of regression heads that learn and have none.

    They stay in the config, so that a checkpoint holds what it was trained with. A number that is the same in all
    images keeps a spread of 1.

    Raises:
        UserError: no image of the split has numbers.
    """
    for name in learning_heads(config):
        head = config.heads[name]
        if not isinstance(head, ClassificationConfig) or head.target != "regression":
            continue
        labels = KnownLabels.of(annotations, "regression")
        values = labels.values[labels.known].astype(np.float64)
        spread = np.where(np.ptp(values, axis=0) > 0, values.std(axis=0), 1.0)
        if head.value_mean is None:
            head.value_mean = tuple(float(f"{value:.6g}") for value in values.mean(axis=0))
        if head.value_std is None:
            head.value_std = tuple(float(f"{value:.6g}") for value in spread)
