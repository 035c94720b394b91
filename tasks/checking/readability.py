"""Whether images and masks can be read, are as large as annotated, and stand upright beyond doubt."""

import warnings
from collections.abc import Iterator

from PIL import Image

from backbones.errors import UserError
from tasks.checking.finding import Finding, Kind, Place, Side, first, some
from tasks.checking.looks import Unusable, spread
from tasks.checking.subject import Subject
from tasks.data.files.image_file import read_stored
from tasks.data.files.raster_file import ORIENTATION

HEADERS = 300  # of a split that are read for their orientation

IMAGE_UNUSABLE = Kind(
    "image-unusable",
    "error",
    "An image is missing, empty, cut off, damaged, or of channels or a depth that the config does not take.",
    "Training stops when it comes to the image.",
)
IMAGE_SIZE = Kind(
    "image-size",
    "error",
    "An image has another size than its annotation says.",
    "Training stops when it comes to the image; boxes and masks are probably those of another copy.",
)
MASK_UNUSABLE = Kind(
    "mask-unusable",
    "error",
    "A mask is missing, damaged, lossy, or of another size than its image.",
    "Training stops when it comes to the image.",
)
MASK_VALUES_UNLISTED = Kind(
    "mask-values-unlisted",
    "warning",
    "A mask holds values that are no class of the list, not 0 and not `data.ignored_value`.",
    "These pixels count as background.",
)
EXIF_AMBIGUOUS = Kind(
    "exif-ambiguous",
    "warning",
    "An image carries an EXIF orientation, and its annotated size fits both the stored and the turned image.",
    "The image is turned. If it was annotated as it is stored, boxes and masks lie elsewhere.",
)


def images(subject: Subject) -> Iterator[Finding]:
    """Images that cannot be used."""
    of_size: list[Unusable] = []
    others: list[Unusable] = []
    for each in subject.looks.unusable:
        (of_size if _only_its_size(subject, each) else others).append(each)
    looked = subject.looks.describe()
    if of_size:
        yield Finding(
            IMAGE_SIZE,
            f"{len(of_size)} such images ({looked} looked at); the first: {of_size[0].reason}",
            "the height and width that the annotations give",
            "annotate the files that are there, or bring back those that were annotated",
            first([Place(each.side, each.index) for each in of_size]),
        )
    if others:
        yield Finding(
            IMAGE_UNUSABLE,
            f"{len(others)} such images ({looked} looked at); the first: {others[0].reason}",
            "files that can be read to their end",
            "copy them again, or take them out of the annotations: "
            + some([subject.name(Place(each.side, each.index)) for each in others]),
            first([Place(each.side, each.index) for each in others]),
        )


def _only_its_size(subject: Subject, each: Unusable) -> bool:
    split = subject.splits[each.side]
    if split.pixels is not None or split.size(each.index) is None:
        return False
    try:
        image = read_stored(
            split.file(each.index), None, subject.config.data.exif, split.frame(each.index), split.slice_axis
        )
    except UserError:
        return False
    return image.shape[:2] != split.size(each.index)


def masks(subject: Subject) -> Iterator[Finding]:
    """Masks that cannot be used, and values in them that stand for nothing."""
    unusable = [mask for mask in subject.masks if mask.problem]
    if unusable:
        places = [Place(mask.side, mask.index) for mask in unusable]
        yield Finding(
            MASK_UNUSABLE,
            f"{len(unusable)} of {len(subject.masks)} masks looked at; the first: {unusable[0].problem}",
            "a mask of the size of its image, in a lossless file",
            f"make the mask anew from the image: {some(list(map(subject.name, places)))}",
            first(places),
        )
    strange = [mask for mask in subject.masks if mask.unlisted]
    if strange:
        shares: dict[int, float] = {}
        for mask in strange:
            for value, share in mask.unlisted.items():
                shares[value] = max(share, shares.get(value, 0.0))
        shown = [f"{value} (up to {share:.1%} of a mask)" for value, share in sorted(shares.items())]
        yield Finding(
            MASK_VALUES_UNLISTED,
            f"{some(shown, 5)} in {len(strange)} of {len(subject.masks)} masks looked at; the classes are "
            f"{subject.classes}",
            "0, or the values of the classes",
            "add the values to the list of classes, correct the ids in it (are all of them one off?), or set "
            "data.ignored_value to the value of pixels that nobody knows",
            first([Place(mask.side, mask.index) for mask in strange]),
        )


def orientation(subject: Subject) -> Iterator[Finding]:
    """Images that may have been annotated before they were turned."""
    if subject.config.data.exif != "auto" or not (subject.wanted.boxes or subject.wanted.masks):
        return
    doubtful: list[Place] = []
    looked = 0
    for side, split in subject.splits.items():
        if split.pixels is not None or split.frames is not None:
            continue
        for index in spread(len(split), HEADERS):
            looked += 1
            value, size = _tag(subject, side, index)
            annotated = split.size(index)
            turned = size[::-1] if value >= 5 else size
            if value != 1 and (annotated is None or (annotated == size and annotated == turned)):
                doubtful.append(Place(side, index, f"EXIF orientation {value}"))
    if doubtful:
        yield Finding(
            EXIF_AMBIGUOUS,
            f"{len(doubtful)} of {looked} images: {some([subject.name(place) for place in doubtful])}",
            "images without an EXIF orientation, or annotations that give the size of the image as it was annotated",
            "look at the pictures; where boxes or masks lie wrong, set --data.exif ignore",
            first(doubtful),
        )


def _tag(subject: Subject, side: Side, index: int) -> tuple[int, tuple[int, int]]:
    """EXIF orientation, 1 .. 8, and (height, width) as stored."""
    try:
        with warnings.catch_warnings(), Image.open(subject.splits[side].file(index)) as image:
            warnings.simplefilter("ignore")
            if image.format == "TIFF":
                return 1, (image.height, image.width)
            value = image.getexif().get(ORIENTATION, 1)
            return (value if value in range(1, 9) else 1), (image.height, image.width)
    except Exception:  # PIL's parsers raise whatever their input makes them stumble over; other checks tell
        return 1, (0, 0)
