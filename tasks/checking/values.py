"""The values of pixels: depth, range, normalisation, order of the channels, differences between the splits."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.checking.finding import Finding, Kind, Place, first
from tasks.checking.looks import Look, spread
from tasks.checking.subject import Subject
from tasks.data.files.image_file import read_stored

DEPTHS = 12  # images of a split whose stored type is looked at
INSIDE = 0.05  # share of the values that must lie between black and white
USED = 0.2  # of the range, by the 99.9th percentile of all images
LARGEST_MEAN, LARGEST_STD, SMALLEST_STD = 3.0, 4.0, 0.05  # of what enters the network
IMAGENET_BGR = (0.406, 0.456, 0.485)
BLUEST = 0.95  # share of the images in which blue is the strongest channel
APART = 1.5  # pooled standard deviations between the means of the splits
FEWEST = 8  # images of each split that can be compared

Floats = npt.NDArray[np.float64]

DEPTH_LOST = Kind(
    "depth-lost",
    "warning",
    "Files store 16 bits or real numbers; `image.bit_depth` is 8.",
    "Values are squeezed into 256 levels; what is told by small differences is lost.",
)
VALUES_CLIPPED = Kind(
    "values-clipped",
    "warning",
    f"Fewer than {INSIDE:.0%} of the values lie between black and white (`image.low`, `high`, `windows`).",
    "Nearly all of the image is plain black or white to the network.",
)
RANGE_UNUSED = Kind(
    "range-unused",
    "warning",
    f"99.9 % of the values of every image lie in the lowest {USED:.0%} of the range from black to white.",
    "All images are dark to the network: `image.high` is not what is white in these files.",
)
NORMALISATION = Kind(
    "normalisation",
    "warning",
    f"What enters the network has a mean beyond {LARGEST_MEAN:g}, or a standard deviation above {LARGEST_STD:g} or "
    f"below {SMALLEST_STD:g}.",
    "Weights that were trained on inputs of mean 0 and deviation 1 do not fit; the first steps may explode.",
)
CHANNEL_ORDER = Kind(
    "channel-order",
    "warning",
    "`image.mean` is that of ImageNet in the order blue, green, red; or blue is the strongest channel of nearly every "
    "image while `image.mean` expects red; or the channels of one split are those of the other in reverse.",
    "Images are read as red, green, blue. Weights see colours that they were not trained on.",
)
IMAGE_BLANK = Kind(
    "image-blank",
    "warning",
    "All pixels of an image have one value.",
    "There is nothing to learn from it; the file is perhaps broken, or lies outside the window.",
)
SPLITS_DIFFER = Kind(
    "splits-differ",
    "warning",
    f"The mean values of training and validation images lie more than {APART:g} standard deviations apart.",
    "The two were made in different ways: another device, another conversion, inverted. The metric measures that too.",
)


def depth(subject: Subject) -> Iterator[Finding]:
    """Stored types that do not fit the bit depth."""
    spec = subject.config.image
    if spec.stores_real_numbers or spec.bit_depth != 8:
        return
    deep: list[tuple[Place, str]] = []
    for side, split in subject.splits.items():
        for index in spread(len(split), DEPTHS):
            try:
                kind, most = _stored(subject, Place(side, index))
            except UserError:
                continue
            if kind != "uint8":
                deep.append((Place(side, index), f"{kind} up to {most:g}"))
    if deep:
        yield Finding(
            DEPTH_LOST,
            f"{subject.name(deep[0][0])} holds {deep[0][1]}; {len(deep)} such images among those looked at",
            "--image.bit_depth 16 (or 32), with --image.high at what is white",
            "set image.bit_depth to that of the files; tools/plan.py measures the rest",
            first([place for place, _ in deep]),
        )


def _stored(subject: Subject, place: Place) -> tuple[str, float]:
    split = subject.splits[place.side]
    if split.pixels is not None:
        image = split.pixels[place.index].numpy()
    else:
        size, frame = split.size(place.index), split.frame(place.index)
        image = read_stored(split.file(place.index), size, subject.config.data.exif, frame, split.slice_axis)
    return image.dtype.name, float(image.max(initial=0))


def value_range(subject: Subject) -> Iterator[Finding]:
    """Values outside what the config calls black and white, or in a small part of it; blank images."""
    looks, spec = subject.looks.seen, subject.config.image
    if not looks:
        return
    described = subject.looks.describe()
    inside = float(np.mean([look.inside for look in looks]))
    if inside < INSIDE and spec.percentiles is None:
        lowest = sorted(looks, key=lambda look: look.inside)
        yield Finding(
            VALUES_CLIPPED,
            f"{inside:.1%} of the values lie between black ({spec.black:g}) and white ({spec.white:g}); {described}",
            "most values of what matters between the two",
            "set image.windows to (centre, width), in this order, or image.low and image.high to the values of these "
            "files; tools/plan.py measures them",
            first([Place(look.side, look.index) for look in lowest]),
        )
    top = max(look.top for look in looks)
    if top < USED and inside >= INSIDE and not spec.windows:
        yield Finding(
            RANGE_UNUSED,
            f"no image reaches more than {top:.1%} of the range from {spec.black:g} to {spec.white:g}; {described}",
            "bright parts near white",
            f"set image.high to what is white in these files, such as {spec.black + top * (spec.white - spec.black):g}",
            first([Place(look.side, look.index) for look in looks]),
        )
    blank = [look for look in looks if float(look.std.max()) == 0]
    if blank:
        places = [Place(look.side, look.index) for look in blank]
        yield Finding(
            IMAGE_BLANK,
            f"{len(blank)} images ({described} looked at), such as {subject.name(places[0])}",
            "pictures of something",
            "look at the files; take them out if they are broken",
            first(places),
        )


def normalisation(subject: Subject) -> Iterator[Finding]:
    """What enters the network."""
    looks, spec = subject.looks.of("train"), subject.config.image
    if not looks:
        return
    means, stds = np.stack([look.mean for look in looks]), np.stack([look.std for look in looks])
    mean = means.mean(0)
    std = np.sqrt((stds**2).mean(0) + means.var(0))
    if np.abs(mean).max() > LARGEST_MEAN or std.max() > LARGEST_STD or std.max() < SMALLEST_STD:
        yield Finding(
            NORMALISATION,
            f"mean {_numbers(mean)}, standard deviation {_numbers(std)} a channel, of {len(looks)} training images",
            "a mean near 0 and a standard deviation near 1",
            f"image.low and image.high are to turn stored values into 0 .. 1 (now {spec.black:g} and {spec.white:g}), "
            f"image.mean and image.std (now {_numbers(spec.mean)} and {_numbers(spec.std)}) are of values after that",
            first([Place(look.side, look.index) for look in looks]),
        )


def channel_order(subject: Subject) -> Iterator[Finding]:
    """Blue and red in each other's place."""
    spec = subject.config.image
    if spec.channels != 3 or spec.stored_channels != 3:
        return
    if np.allclose(spec.mean, IMAGENET_BGR, atol=2e-3):
        yield Finding(
            CHANNEL_ORDER,
            f"image.mean is {_numbers(spec.mean)}, that of ImageNet in the order blue, green, red",
            f"{_numbers(IMAGENET_BGR[::-1])}: images are read as red, green, blue",
            "turn image.mean and image.std round",
        )
    train, val = (_scaled(subject.looks.of(side)) for side in ("train", "val"))
    if len(train) >= FEWEST and len(val) >= FEWEST and _reversed(train, val):
        yield Finding(
            CHANNEL_ORDER,
            f"red, green and blue have the means {_numbers(train.mean(0))} in training and {_numbers(val.mean(0))} in "
            "validation images",
            "the same order in both",
            "one of the two was written with its channels turned round (as OpenCV does with RGB arrays): write it anew",
            first([Place(side, looks[0].index) for side in ("train", "val") if (looks := subject.looks.of(side))]),
        )
    elif len(train) >= FEWEST and spec.mean[0] > spec.mean[2]:
        both = np.concatenate([train, val])
        bluer = both[:, 2] - both[:, 0] > 0.01
        colder = both.mean(0)
        if bluer.mean() >= BLUEST and colder[2] - colder[0] > 0.03:
            yield Finding(
                CHANNEL_ORDER,
                f"blue is stronger than red in {bluer.mean():.0%} of the images: red, green and blue have the means "
                f"{_numbers(colder)}; image.mean is {_numbers(spec.mean)}",
                "red, green, blue in this order",
                "look at the pictures: if faces and soil are blue, the files were written with their channels turned "
                "round; if the images are of water, sky or a blue stain, all is well",
                first([Place(look.side, look.index) for look in subject.looks.of("train")]),
            )


def splits(subject: Subject) -> Iterator[Finding]:
    """Brightness of the two splits."""
    train, val = (_scaled(subject.looks.of(side)) for side in ("train", "val"))
    if len(train) < FEWEST or len(val) < FEWEST or _reversed(train, val):
        return
    pooled = np.sqrt((train.var(0) + val.var(0)) / 2)
    apart = np.abs(train.mean(0) - val.mean(0)) / np.maximum(pooled, 1e-3)
    if apart.max() > APART:
        inverted = np.abs(1 - train.mean(0) - val.mean(0)).max() < np.abs(train.mean(0) - val.mean(0)).max() / 3
        yield Finding(
            SPLITS_DIFFER,
            f"on the scale from black to white, training images have the means {_numbers(train.mean(0))}, validation "
            f"images {_numbers(val.mean(0))}: {apart.max():.1f} standard deviations apart",
            "images of both that were made in the same way",
            "the validation images look like negatives: invert one of the two"
            if inverted
            else "find out what was done to one of them: inverted, other depth, other device; or split anew",
            first([Place(side, look.index) for side in ("train", "val") for look in subject.looks.of(side)[:3]]),
        )


def _scaled(looks: list[Look]) -> Floats:
    rows = [look.scaled for look in looks]
    return np.stack(rows).astype(np.float64) if rows else np.zeros((0, 1))


def _reversed(train: Floats, val: Floats) -> bool:
    """Whether the channels of one are those of the other in reverse: closer so by far, and different at all."""
    ours, theirs = train.mean(0), val.mean(0)
    plain, turned = np.abs(ours - theirs).max(), np.abs(ours[::-1] - theirs).max()
    return bool(abs(ours[0] - ours[-1]) > 0.02 and plain > 0.02 and turned < plain / 3)


def _numbers(values: npt.ArrayLike) -> str:
    return " ".join(f"{value:.3g}" for value in np.asarray(values).tolist())
