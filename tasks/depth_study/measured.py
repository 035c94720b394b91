"""What the study knows of a network."""

from dataclasses import dataclass

from tasks.depth_study.gradient_flow import LayerGradient


@dataclass(frozen=True, slots=True)
class Measured:
    """One trained network.

    Attributes:
        network: its registered name.
        family: that name without the number.
        depth: the number in it, the layers with weights by the count of its paper.
        parameters: of the backbone.
        training_error: share of the training images that it gets wrong, as they are, without augmentation.
        validation_error: share of the held-out images that it gets wrong.
        losses: step and training loss of every logged line.
        at_start: gradients by layer before training.
        at_end: gradients by layer after it.
    """

    network: str
    family: str
    depth: int
    parameters: int
    training_error: float
    validation_error: float
    losses: list[tuple[int, float]]
    at_start: list[LayerGradient]
    at_end: list[LayerGradient]
