"""What an experiment says about its data and how images are changed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from tasks.config_section import Count, Natural, NotNegative, Positive, Section, Share

SliceAxis = Literal["axial", "coronal", "sagittal"]
ObjectCounts = Literal["all", "each"]
PositiveShare = Annotated[float, Field(gt=0, le=1)]


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"{limits} runs backwards; expected the smaller number first")
    return limits


Range = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
Areas = Annotated[tuple[PositiveShare, PositiveShare], AfterValidator(_ordered)]


def _processes(value: object) -> object:
    """Refuses in one sentence what a union of types would refuse in one for each."""
    if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"{value!r} is no number of processes; expected 0 or more, or auto")
    return value


Workers = Annotated[int | Literal["auto"], BeforeValidator(_processes)]


class AugmentConfig(Section):
    """Random changes to training images; boxes, outlines and masks go along. Validation images are only resized.

    What a change leaves without content is filled with the mean of `image.mean`, the zero of the network's input; masks
    are ignored there.
    """

    horizontal_flip: Share = 0.5
    """Probability."""
    vertical_flip: Share = 0.0
    """Probability."""
    quarter_turns: bool = False
    """Turn by 0, 90, 180 or 270 degrees, exactly and each as often."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle in degrees, in either direction."""
    shear: Annotated[float, Field(ge=0, le=60)] = 0.0
    """Largest angle in degrees that either axis is tilted by."""
    elastic: Annotated[float, Field(ge=0, le=0.1)] = 0.0
    """Standard deviation of smooth deformations as a share of the sides; 0.02 is U-Net's, 0.05 is strong."""
    scale_jitter: Range | None = None
    """Range of a further random factor on the size, e.g. (0.5, 2.0)."""
    crop: tuple[Count, Count] | None = None
    """Height and width in pixels of a random crop, taken after resizing."""
    crop_padding: Natural = 0
    """Pixels that a crop may reach over each edge."""
    random_resized_crop: Areas | None = None
    """Range of the share of the area, such as (0.08, 1.0), of a crop of aspect ratio 3/4 to 4/3, resized to
    `center_crop` or `size`; in place of `scale_jitter` and `crop`."""
    colour: Share = 0.0
    """Strength of random brightness, contrast and saturation, 0 to 1; 0 is none."""
    gamma: Range | None = None
    """Range of a random exponent on the values from black (0) to white (1), such as (0.7, 1.5)."""
    blur: Annotated[float, Field(ge=0, le=20)] = 0.0
    """Largest standard deviation of a Gaussian blur, in pixels."""
    noise: Share = 0.0
    """Largest standard deviation of Gaussian noise, as a share of the range from black to white."""
    erase: Share = 0.0
    """Probability of erasing a random rectangle of 2 to 33 % of the image; annotations stay (random erasing)."""
    policy: Literal["none", "trivial_augment", "rand_augment"] = "none"
    """Operations drawn from a published list: one of any strength, or `policy_operations` of `policy_magnitude`."""
    policy_operations: Count = 2
    """Operations of rand_augment."""
    policy_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Strength of the operations of rand_augment, 0 to 30."""
    policy_magnitude_std: NotNegative = 0.0
    """Standard deviation of that strength from one operation to the next."""
    policy_probability: Share = 1.0
    """How likely each operation of rand_augment is carried out."""
    mixup: NotNegative = 0.0
    """Blend with another image, labels too, in shares drawn from Beta(x, x); 0.2 is usual, 0 is none. Labels only."""
    cutmix: NotNegative = 0.0
    """Paste a rectangle of another image in, labels by area drawn from Beta(x, x); 1.0 is usual. Labels only."""
    mix_probability: Share = 1.0
    """How many images are mixed, where `mixup` or `cutmix` is on; with both on, either in turn by chance."""
    mosaic: Share = 0.0
    """Probability of joining an image with three others around a random point. Boxes and masks only."""
    mosaic_scale: Range = (0.5, 1.5)
    """Range of a random factor on the size of each of the four."""
    close_mosaic: Natural = 0
    """Epochs at the end of training without mosaic."""
    copy_paste: Share = 0.0
    """Probability of pasting some of another image's objects upon an image, by their outlines. Boxes and masks only."""


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


class PlaceConfig(Section):
    """Where a data set lies, and how it is read."""

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
    class_names: tuple[str, ...] | None = None
    """Names of the classes (or regressed numbers) in index order, where the data has none, or in another order."""
    columns: ColumnsConfig = Field(default_factory=ColumnsConfig)
    image_labels: Path | None = None
    """A table (CSV) with labels of the same images, where the data brings boxes or masks; columns as in `columns`."""
    count_objects: ObjectCounts | None = None
    """The label of an image is how many objects it has: "all" of them, or of "each" class; for target `regression`."""
    ignored_value: Natural | None = None
    """Raw value in mask files of pixels that take no part in losses and metrics, such as 255 in Pascal VOC."""
    slice_axis: SliceAxis = "axial"
    """Axis along which volumes (NIfTI) are cut into images."""
    spacing: tuple[Positive, Positive] | None = None
    """Millimetres from row to row and from column to column; None takes them from the file, if it has them."""


class SourceConfig(PlaceConfig):
    """One of several data sets that a run learns from."""

    heads: tuple[str, ...] = ()
    """Heads that learn from it, which it must have targets for; none: all."""
    ratio: Positive | None = None
    """How many of the images of an epoch are its own, in comparison with the other sources; None: as many as it has."""


class DataConfig(PlaceConfig):
    """Where images and annotations lie and how they become batches."""

    sources: dict[str, SourceConfig] = Field(default_factory=dict)
    """Several data sets, by name, in place of `root` and what else says where one lies; see docs/several_heads.md."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Cross-validation: divide the training data into so many parts, by group and with classes in equal shares."""
    fold: Natural = 0
    """Which of the `folds` is held out, from 0."""
    size: tuple[Count, Count] | None = None
    """Resize to exactly this height and width, in place of short_side and long_side."""
    center_crop: tuple[Count, Count] | None = None
    """Height and width in pixels cut from the middle of images that are evaluated, after resizing."""
    antialias: bool | None = None
    """Average pixels where an image shrinks, as networks that label images expect and torchvision's detectors do not;
    None: where `size`, `center_crop` or `augment.random_resized_crop` is set."""
    reduced_decode: bool | None = None
    """Decode 8-bit JPEG files for training at a half, a quarter or an eighth of the scale where the image is resized to
    at most that; evaluation reads whole images. None: where `antialias` averages pixels anyway."""
    repeats: Count = 1
    """Copies of each training image side by side, each changed at random in its own way (repeated augmentation); an
    epoch keeps its length and takes as many fewer images."""
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
    workers: Workers = "auto"
    """Loader processes of each training process; the result does not depend on it. `auto`: as many as keep up with the
    network, from a short measurement when training begins."""
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
