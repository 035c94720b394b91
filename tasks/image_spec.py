"""What an image is before it becomes numbers: channels, the values that mean black and white, normalisation."""

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator


class ImageSpec(BaseModel):
    """How stored pixels become network input: `((pixel - low) / (high - low) - mean) / std`.

    Attributes:
        channels: 1 for grey, 3 for RGB, or as many as the files have.
        bit_depth: bits a stored pixel has, 8 or 16; files of another depth are scaled by their full range.
        low: the stored value that becomes 0.
        high: the stored value that becomes 1; None is the largest of the bit depth.
        mean: of each channel, after that scaling.
        std: of each channel, after that scaling.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    channels: int = 3
    bit_depth: int = 8
    low: float = 0.0
    high: float | None = None
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @property
    def white(self) -> float:
        """The stored value that becomes 1."""
        return float(2**self.bit_depth - 1) if self.high is None else self.high

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        # mean and std are checked against `channels` when a model is built: assigning the three one after another
        # would fail here in between.
        if self.bit_depth not in (8, 16):
            raise ValueError(f"bit_depth is {self.bit_depth}; expected 8 or 16")
        if not self.low < self.white:
            raise ValueError(f"low {self.low} is not below high {self.white}")
        if any(s <= 0 for s in self.std):
            raise ValueError(f"std {self.std} holds a value that is not positive")
        return self
