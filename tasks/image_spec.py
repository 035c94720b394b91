"""What an image is before it becomes numbers: channels, the values that mean black and white, normalisation."""

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from backbones.errors import UserError


class ImageSpec(BaseModel):
    """How stored pixels become network input: `((pixel - low) / (high - low) - mean) / std`.

    In place of `low` and `high`, there may be windows or percentiles, one of the three.

    Attributes:
        channels: of the network's input: 1 for grey, 3 for RGB, or as many as the files have.
        bit_depth: bits a stored pixel has: 8, 16, or 32 for real numbers (float32), such as Hounsfield units and the
            intensities of NIfTI volumes. Files of another depth are scaled by their full range, but not to 32.
        low: the stored value that becomes 0.
        high: the stored value that becomes 1; None is the largest of the bit depth, and must be given for 32.
        windows: (centre, width) in stored values: what lies below becomes 0, what lies above 1 (DICOM PS3.3
            C.11.2.1.3.2, LINEAR_EXACT). Files are read as one grey channel; several windows make a channel each, a
            single one is repeated for all channels.
        percentiles: two of these, 0 .. 100, of all pixels of an image become 0 and 1, what lies beyond is cut off;
            the image is float32 from then on, whatever the bit depth.
        mean: of each channel, after that scaling.
        std: of each channel, after that scaling.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    channels: int = 3
    bit_depth: int = 8
    low: float = 0.0
    high: float | None = None
    windows: tuple[tuple[float, float], ...] | None = None
    percentiles: tuple[float, float] | None = None
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @property
    def stored_channels(self) -> int:
        """Channels of an image until the model normalises it."""
        return 1 if self.windows else self.channels

    @property
    def stores_real_numbers(self) -> bool:
        """Whether images are float32 until the model normalises them; else uint8 or uint16."""
        return self.bit_depth == 32 or self.percentiles is not None

    @property
    def black(self) -> float:
        """The stored value that becomes 0; the lowest of all windows."""
        if self.windows:
            return min(centre - width / 2 for centre, width in self.windows)
        return 0.0 if self.percentiles else self.low

    @property
    def white(self) -> float:
        """The stored value that becomes 1; the highest of all windows."""
        if self.windows:
            return max(centre + width / 2 for centre, width in self.windows)
        if self.percentiles:
            return 1.0
        return float(2**self.bit_depth - 1) if self.high is None else self.high

    @property
    def stored_mean(self) -> tuple[float, ...]:
        """Value of each stored channel that becomes 0 at the network's input; several windows agree on their mean."""
        if self.windows:
            several = self.windows * (self.channels if len(self.windows) == 1 else 1)
            pairs = zip(self.mean, several, strict=False)  # their number is checked by `require_complete`
            each = [mean * width + centre - width / 2 for mean, (centre, width) in pairs]
            return (sum(each) / len(each),)
        return tuple(mean * (self.white - self.black) + self.black for mean in self.mean)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        # What concerns several fields is in `require_complete`: assigning them one after another would fail here in
        # between.
        if self.bit_depth not in (8, 16, 32):
            raise ValueError(f"bit_depth is {self.bit_depth}; expected 8, 16, or 32 for real numbers")
        if any(s <= 0 for s in self.std):
            raise ValueError(f"std {self.std} holds a value that is not positive")
        if self.windows is not None and not self.windows:
            raise ValueError("windows is empty; expected pairs of centre and width, or None")
        for centre, width in self.windows or ():
            if not width > 0:
                raise ValueError(f"the window {centre} {width} has no width; expected its centre, then a width above 0")
        if self.percentiles and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f"percentiles {self.percentiles}; expected two that rise, within 0 and 100")
        if not self.black < self.white:
            raise ValueError(f"low {self.low} is not below high {self.white}")
        return self

    def require_complete(self) -> None:
        """Raise `UserError` where fields do not fit each other."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise UserError(f"image.{name} has {len(values)} values for {self.channels} channels; give one each")
        if self.windows and len(self.windows) not in (1, self.channels):
            raise UserError(
                f"image.windows has {len(self.windows)} windows for {self.channels} channels; expected a window for "
                f"each channel, or one for all: set image.channels to {len(self.windows)}"
            )
        ways = {
            "low and high": self.low != 0 or self.high is not None,
            "windows": self.windows is not None,
            "percentiles": self.percentiles is not None,
        }
        given = [name for name, value in ways.items() if value]
        if len(given) > 1:
            raise UserError(
                f"image has {' as well as '.join(given)}; expected one of low and high, windows, percentiles"
            )
        if self.bit_depth == 32 and given in ([], ["low and high"]) and self.high is None:
            raise UserError(
                "image.bit_depth is 32: real numbers have no largest value; give image.high, image.windows or "
                "image.percentiles"
            )
