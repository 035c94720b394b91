"""What must be known of a model to use it: classes, images, sizes, and what each head gives. Travels in exports."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.evaluated_size import uses_antialias
from tasks.image_spec import ImageSpec
from tasks.label_map import LabelMap

FORMAT = 1
# Of the data section, what says how an image that is predicted is read and resized.
PREPARING = {"size", "center_crop", "antialias", "short_side", "long_side", "exif", "slice_axis"}


class HeadDescription(BaseModel):
    """What a head of a model gives.

    Attributes:
        kind: boxes, labels or masks.
        labels: its classes.
        target: of labels and masks, as in the head's config.
        background: masks of target `multiclass`: channel 0 of the scores is none of the classes.
        threshold: masks of the other targets: a pixel belongs to a class whose probability is larger.
        instances: boxes: with masks.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["boxes", "labels", "masks"]
    labels: LabelMap
    target: str = ""
    background: bool = True
    threshold: float = 0.5
    instances: bool = False


class ModelDescription(BaseModel):
    """What a file that holds a model says of itself.

    Attributes:
        format: of this description.
        name: of the experiment.
        heads: by name.
        image: what images are before they become numbers.
        data: how images are read and resized; all other fields are defaults.
        divisor: images are padded at the right and bottom to multiples of this.
        fixed_size: height and width that every batch is padded to, where a file takes no other; None: any multiple.
    """

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    name: str
    heads: dict[str, HeadDescription]
    image: ImageSpec
    data: DataConfig
    divisor: int
    fixed_size: tuple[int, int] | None = None

    @classmethod
    def read(cls, text: str, source: object) -> Self:
        """From json.

        Raises:
            UserError: `source` is of another version, or no export of ours.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError(
                f"{source}: its description cannot be read ({error.errors()[0]['msg']}); export the run again"
            ) from None


def preparing_options(data: DataConfig) -> DataConfig:
    """The part of a data section that an export needs, with `antialias` decided."""
    kept = data.model_dump(include=PREPARING)
    return DataConfig.model_validate({**kept, "antialias": uses_antialias(data)})
