"""What an experiment says about its data and how images are changed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tasks.config_section import Count, Natural, Positive, Section, Share

SliceAxis = Literal["axial", "coronal", "sagittal"]


class AugmentConfig(Section):
    """Random changes to training images; validation images are only resized."""

    horizontal_flip: Share = 0.5
    """Probability."""
    vertical_flip: Share = 0.0
    """Probability."""
    colour: Share = 0.0
    """Strength of random brightness, contrast and saturation, 0 to 1; 0 is none."""
    scale_jitter: tuple[Positive, Positive] | None = None
    """Range of a further random factor on the size, e.g. (0.5, 2.0)."""
    crop: tuple[Count, Count] | None = None
    """Height and width in pixels of a random crop, taken after resizing."""


class ColumnsConfig(Section):
    """Columns of a CSV file, by the names in its first line."""

    image: str | None = None
    """File of the image, relative to the CSV file; None finds path, image, file, filename or file_name."""
    labels: tuple[str, ...] = ()
    """The class; several: a 0/1 column for each class of multi-label data, or the numbers of a regression. None finds
    label, class, target or labels; several classes in one column are separated by | or ;."""
    mask: str | None = None
    """File of the mask; None finds mask, mask_path, label_path or segmentation."""
    split: str | None = None
    """Name of the split; None finds split, set or subset."""
    group: str | None = None
    """What must stay on one side of a split, such as the patient; None finds group, patient or patient_id."""
    weight: str | None = None
    """How often to draw an image, in comparison; None finds weight."""


class DataConfig(Section):
    """Where images and annotations lie and how they become batches."""

    root: Path | None = None
    """Folder (or CSV or npz file) with the data."""
    format: str = "auto"
    """A registered reader; `auto` looks at the folder, `cells` is the generated sample."""
    train: str | None = None
    """Name of the training split; None finds it."""
    val: str | None = None
    """Name of the validation split; None finds it, or splits the training data."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the training images held out when there is no validation split."""
    group_by: str | None = None
    """Regular expression on the file name; images with an equal first group stay on one side of a made split."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Cross-validation: divide the training data into so many parts, by group and with classes in equal shares."""
    fold: Natural = 0
    """Which of the `folds` is held out, from 0."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes (or regressed numbers) in index order, where the data has none, or in another order."""
    columns: ColumnsConfig = Field(default_factory=ColumnsConfig)
    ignored_value: Natural | None = None
    """Raw value in mask files of pixels that take no part in losses and metrics, such as 255 in Pascal VOC."""
    slice_axis: SliceAxis = "axial"
    """Axis along which volumes (NIfTI) are cut into images."""
    spacing: tuple[Positive, Positive] | None = None
    """Millimetres from row to row and from column to column; None takes them from the file, if it has them."""
    size: tuple[Count, Count] | None = None
    """Resize to exactly this height and width, in place of short_side and long_side."""
    center_crop: tuple[Count, Count] | None = None
    """Height and width in pixels cut from the middle of images that are evaluated, after resizing."""
    balance: Share = 0.0
    """How far to draw training images of rare classes more often: 0 not at all, 1 until all classes are as frequent."""
    short_side: Annotated[tuple[Count, ...], Field(min_length=1)] = (800,)
    """Short side of the resized image in pixels; several: training draws one an image, validation takes the last."""
    long_side: Count = 1333
    """The long side does not grow beyond this."""
    exif: Literal["auto", "apply", "ignore"] = "auto"
    """EXIF orientation: `auto` turns an image when its annotated size says the annotator saw it turned."""
    batch_size: Count = 16
    """Images an optimizer step, over all processes and accumulated passes."""
    workers: Natural = 2
    """Loader processes of each training process; the result does not depend on it."""
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
