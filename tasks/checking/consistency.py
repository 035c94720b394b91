"""Whether training and validation mean the same by each class, told from how its examples look.

A linear discriminant (Fisher 1936; covariance of the classes together, shrunk towards its diagonal) learns from the
colours, sizes and coarse pictures of training examples what each class looks like. On validation examples it must not
be right where it is wrong by a rule: if nearly all of one class look like another and the other way round, their names
were exchanged. Where classes look alike to it, it says nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from backbones.errors import UserError
from tasks.checking.clock import Clock
from tasks.checking.finding import Finding, Kind, Place, Side, first, some
from tasks.checking.looks import spread
from tasks.checking.subject import Subject
from tasks.data.files.image_file import Pixels
from tasks.data.semantic import semantic_masks

EXAMPLES = 4000  # of a split, at most
IMAGES = 800  # of a split that they are taken from
FEWEST = 5  # examples of a class in each split
TELLS = 0.75  # share of the training examples of two classes that it must tell apart, when it has not seen them
AGAINST = 0.25  # share of the validation examples of these two that it is right about, at most
GRID = 4  # cells along a side of the coarse picture
SHRINKAGE = 0.3

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CLASSES_SWAPPED = Kind(
    "classes-swapped",
    "warning",
    f"By their looks, at least {1 - AGAINST:.0%} of the validation examples of one class are another one's and the "
    f"other way round, though training examples of the two can be told apart ({TELLS:.0%} right).",
    "The names of two classes were exchanged in one of the splits: the metric calls right wrong.",
)
CLASSES_SHIFTED = Kind(
    "classes-shifted",
    "warning",
    "By their looks, validation examples of each class belong to the class before it, or after it, in training.",
    "The ids of one split are one off (counted from 0 in one and from 1 in the other).",
)


@dataclass(frozen=True, slots=True)
class Examples:
    """Objects, images or areas of a class.

    Attributes:
        looks: (N, D) what they look like.
        labels: (N,) 0 .. K-1.
        images: (N,) where they are.
    """

    looks: Floats
    labels: Ints
    images: Ints


def names(subject: Subject) -> Iterator[Finding]:
    """Classes that mean something else in validation."""
    if len(subject.classes) < 2 or subject.wanted.labels in ("multi", "regression"):
        return
    clock = subject.clock.portion(0.12)
    train, val = (collect(subject, side, clock) for side in ("train", "val"))
    told = _moved(train, val, len(subject.classes))
    swapped, offsets = _closed(told), {other - own for own, other in told.items()}
    shifted = len(told) > 1 and not swapped and offsets in ({1}, {-1})
    # A single class that looks like another is no exchange, but a class that looks different for once.
    moved = told if shifted else swapped
    if not moved:
        return
    classes = subject.classes.names
    shown = [f"{classes[own]} looks like {classes[other]}" for own, other in moved.items()]
    where = first([Place("val", int(image)) for own in moved for image in val.images[val.labels == own][:2]])
    if shifted:
        yield Finding(
            CLASSES_SHIFTED,
            f"in validation, {some(shown, 5)} of training",
            "the same ids in both splits",
            "correct the ids of one of the two; are they counted from 0 in one and from 1 in the other?",
            where,
        )
    else:
        yield Finding(
            CLASSES_SWAPPED,
            f"in validation, {some(shown, 5)} of training",
            "the same names in both splits",
            "look at the pictures; exchange the names in the split where they are wrong",
            where,
        )


def _closed(moved: dict[int, int]) -> dict[int, int]:
    """The classes that were exchanged among each other."""
    kept = {own: other for own, other in moved.items() if other in moved}
    return kept if len(kept) == len(moved) else _closed(kept)


def _moved(train: Examples, val: Examples, classes: int) -> dict[int, int]:
    """Classes of validation that look like another class of training, which is the value, as far as looks can tell."""
    both = [k for k in range(classes) if (val.labels == k).sum() >= FEWEST]
    known = [k for k in range(classes) if (train.labels == k).sum() >= FEWEST]
    if not both or len(known) < 2:
        return {}
    half = np.arange(len(train.labels)) % 2 == 0
    unseen = np.concatenate(
        [_scores(train, half, train.looks[~half], known), _scores(train, ~half, train.looks[half], known)]
    )
    unseen_labels = np.concatenate([train.labels[~half], train.labels[half]])
    scores = _scores(train, np.ones(len(train.labels), np.bool_), val.looks, known)
    # Share of the validation examples of each class that look like each class of training.
    nearest = np.array(known)[scores.argmax(axis=1)]
    shares = np.array([[(nearest[val.labels == own] == other).mean() for other in known] for own in both])
    rows, columns = linear_sum_assignment(-shares)
    told = {own: own for own in both}
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        own, other = both[row], known[column]
        if own == other:
            continue
        if own not in known:  # it has no examples of its own in training
            sure = shares[row, column] >= 1 - AGAINST
        else:
            sure = _tells(unseen, unseen_labels, known, own, other) >= TELLS and (
                _prefers(scores[val.labels == own], known, own, other) <= AGAINST
            )
        if sure:
            told[own] = other
    return {own: other for own, other in told.items() if own != other}


def _tells(scores: Floats, labels: Ints, known: list[int], one: int, other: int) -> float:
    """Share of unseen training examples of two classes that are told apart, the worse of the two."""
    return min(_prefers(scores[labels == one], known, one, other), _prefers(scores[labels == other], known, other, one))


def _prefers(scores: Floats, known: list[int], one: int, other: int) -> float:
    """Share of examples that look more like `one` than like `other`."""
    return float((scores[:, known.index(one)] > scores[:, known.index(other)]).mean()) if len(scores) else 0.0


def _scores(train: Examples, chosen: npt.NDArray[np.bool_], looks: Floats, known: list[int]) -> Floats:
    """(N, known) linear discriminant scores of `looks`, learnt from the chosen training examples."""
    own, labels = train.looks[chosen], train.labels[chosen]
    centre, width = own.mean(axis=0), own.std(axis=0)
    width[width == 0] = 1.0
    own, other = (own - centre) / width, (looks - centre) / width
    means = np.stack([own[labels == k].mean(axis=0) if (labels == k).any() else np.zeros(own.shape[1]) for k in known])
    rest = np.concatenate([own[labels == k] - means[row] for row, k in enumerate(known)])
    covariance = rest.T @ rest / max(len(rest) - len(known), 1)
    diagonal = np.diag(np.diag(covariance) + 1e-6)
    solved = np.linalg.solve((1 - SHRINKAGE) * covariance + SHRINKAGE * diagonal, means.T)
    return np.asarray(other @ solved - 0.5 * (means.T * solved).sum(axis=0))


def collect(subject: Subject, side: Side, clock: Clock) -> Examples:
    """Examples of a split: its objects, its labelled images, or the areas of the classes in its masks."""
    split, config = subject.splits[side], subject.config
    usable = {look.index for look in subject.looks.of(side)}
    looks: list[Floats] = []
    labels: list[int] = []
    images: list[int] = []
    for number, index in enumerate(index for index in spread(len(split), IMAGES) if index in usable):
        if len(labels) >= EXAMPLES or (number >= 40 and not clock.left()):
            break
        try:
            found = list(_examples(subject, side, index, split.image(index, config.image, config.data.exif)))
        except UserError:  # told by other checks
            continue
        for label, look in found:
            labels.append(label)
            looks.append(look)
            images.append(index)
    width = len(looks[0]) if looks else 1
    return Examples(np.array(looks).reshape(-1, width), np.array(labels, np.int64), np.array(images, np.int64))


def _examples(subject: Subject, side: Side, index: int, image: Pixels) -> Iterator[tuple[int, Floats]]:
    split, size = subject.splits[side], (image.shape[0], image.shape[1])
    if subject.wanted.labels is not None:
        assert split.image_labels is not None  # the data was opened with them
        label = int(split.image_labels[index])
        if label >= 0:
            yield label, _describe(image, None)
    elif subject.wanted.boxes:
        objects = split.objects(index)
        for box, label, crowd in zip(objects.boxes, objects.labels.tolist(), objects.crowd.tolist(), strict=True):
            left, top, right, bottom = box.round().astype(int).clip(0).tolist()
            part = image[top:bottom, left:right]
            if not crowd and min(part.shape[:2]) >= 3:
                yield label, np.append(_describe(part, None), np.log([right - left, bottom - top]))
    else:
        mask = semantic_masks(split, index, size, overlapping=False)[:, :, 0]
        for label in range(len(subject.classes)):
            inside = mask == label + 1
            if inside.sum() >= 9:
                yield label, np.append(_describe(image, inside), np.log(inside.mean()))


def _describe(part: Pixels, inside: npt.NDArray[np.bool_] | None) -> Floats:
    """Colours and coarse picture of a part of an image (H, W, C), or colours of the pixels that are inside."""
    pixels = part.astype(np.float32)
    if inside is not None:
        own = pixels[inside]
        return np.concatenate([own.mean(axis=0), own.std(axis=0)]).astype(np.float64)
    coarse = cv2.resize(pixels, (GRID, GRID), interpolation=cv2.INTER_AREA).reshape(-1)
    flat = pixels.reshape(-1, pixels.shape[2])
    return np.concatenate([coarse, flat.mean(axis=0), flat.std(axis=0)]).astype(np.float64)
