"""How often each class is there, in each split; what is there at all."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tasks.checking.finding import Finding, Kind, Place, Side, first, some
from tasks.checking.subject import Subject

RARE = 5  # examples
EMPTY = 0.5  # share of training images without anything
BACKGROUND = ("background", "_background_", "bg", "unlabeled", "unlabelled", "void", "none")

Counts = npt.NDArray[np.int64]

CLASS_ABSENT = Kind(
    "class-absent",
    "warning",
    "A class has no example, neither in training nor in validation.",
    "The head has an output that is never right; a list of classes of another data set, or with background in it?",
)
CLASS_ONLY_IN_VAL = Kind(
    "class-only-in-val",
    "error",
    "A class has examples in validation and none in training.",
    "It is measured and cannot be learnt.",
)
CLASS_ONLY_IN_TRAIN = Kind(
    "class-only-in-train",
    "note",
    "A class has examples in training and none in validation.",
    "It is learnt and not measured.",
)
CLASS_RARE = Kind(
    "class-rare",
    "note",
    f"A class has fewer than {RARE} examples in training.",
    "It is hardly learnt; `data.balance`, class weights or more examples help.",
)
BACKGROUND_CLASS = Kind(
    "background-class",
    "warning",
    "A class is called background (or unlabelled, void), though heads have a background of their own.",
    "Background is learnt and measured as a thing to be found; means over classes include it.",
)
IMAGES_EMPTY = Kind(
    "images-empty",
    "warning",
    f"More than {EMPTY:.0%} of the training images have no annotation.",
    "Most of what is learnt is that there is nothing; are annotations missing?",
)
NOTHING_TO_SCORE = Kind(
    "nothing-to-score",
    "error",
    "No validation image has an annotation.",
    "The metric has nothing to measure, and no best checkpoint can be chosen.",
)
NOTHING_TO_LEARN = Kind(
    "nothing-to-learn",
    "error",
    "No training image that was looked at has an annotation.",
    "There is nothing to learn.",
)


def balance(subject: Subject) -> Iterator[Finding]:
    """Examples of each class."""
    if subject.wanted.labels == "regression":
        return
    counted = {side: _count(subject, side) for side in subject.splits}
    train, val = counted["train"][0], counted["val"][0]
    # Of masks only a sample was read: what is in none of them may be in the others.
    whole = counted["train"][1] and counted["val"][1]
    names, of = subject.classes.names, _unit(subject)
    absent = [name for name, a, b in zip(names, train, val, strict=True) if not a and not b]
    only_val = [f"{name} ({b})" for name, a, b in zip(names, train, val, strict=True) if not a and b]
    only_train = [f"{name} ({a})" for name, a, b in zip(names, train, val, strict=True) if a and not b]
    rare = [f"{name} ({a})" for name, a in zip(names, train, strict=True) if 0 < a < RARE]
    where = "" if whole else f" ({len(subject.masks)} masks looked at)"
    if absent:
        yield Finding(
            CLASS_ABSENT,
            f"{len(absent)} of {len(names)} classes: {some(absent, 5)}{where}",
            "a list of the classes that the annotations hold",
            "take the classes out of the list; if the ids of all annotations are one off, correct them",
        )
    if only_val and counted["train"][1]:
        yield Finding(
            CLASS_ONLY_IN_VAL,
            f"{some(only_val, 5)} {of} in validation, none in training",
            "examples of each class in both",
            "split anew (leave data.val out), or take the class out of validation; if all ids of one split are one "
            "off, correct them",
        )
    if only_train and counted["val"][1]:
        yield Finding(
            CLASS_ONLY_IN_TRAIN,
            f"{some(only_train, 5)} {of} in training, none in validation",
            "examples of each class in both",
            "split anew, or bear in mind that nothing is known about them",
        )
    if rare and whole:
        yield Finding(
            CLASS_RARE,
            f"{some(rare, 5)} {of} in training",
            f"{RARE} examples at the very least",
            "annotate more, put classes together, or draw rare ones more often: --data.balance 0.5",
        )


def background(subject: Subject) -> Iterator[Finding]:
    """A class that is none."""
    found = [name for name in subject.classes.names if name.strip().lower() in BACKGROUND]
    if subject.wanted.labels is not None and not subject.wanted.boxes and subject.wanted.masks is None:
        return  # "none" is a fine label of an image
    if found:
        yield Finding(
            BACKGROUND_CLASS,
            f"{some(found)} among the {len(subject.classes)} classes",
            "classes of things, without the background",
            "take it out of the categories or of the list of classes; heads count what is no class as background",
        )


def emptiness(subject: Subject) -> Iterator[Finding]:
    """Images without annotations."""
    train, val = (_present(subject, side) for side in ("train", "val"))
    if val and not any(val.values()):
        yield Finding(
            NOTHING_TO_SCORE,
            f"none of the {len(val)} validation images{_sampled(subject, 'val', val)} has an annotation",
            "annotations to compare predictions with",
            "give another split by data.val, or leave it out, and one is made from the training data",
            first([Place("val", index) for index in val]),
        )
    empty = [index for index, anything in train.items() if not anything]
    if train and len(empty) == len(train):
        yield Finding(
            NOTHING_TO_LEARN,
            f"none of the {len(train)} training images{_sampled(subject, 'train', train)} has an annotation",
            "annotations to learn from",
            "look at the files; are the values of masks those of the list of classes?",
            first([Place("train", index) for index in empty]),
        )
    elif len(empty) > EMPTY * len(train):
        yield Finding(
            IMAGES_EMPTY,
            f"{len(empty)} of {len(train)} training images{_sampled(subject, 'train', train)}",
            "annotations in most images, unless nothing is really there",
            "look at the pictures; leave out images that nobody has annotated",
            first([Place("train", index) for index in empty]),
        )


def _sampled(subject: Subject, side: Side, looked: dict[int, bool]) -> str:
    return "" if len(looked) == len(subject.splits[side]) else " looked at"


def _unit(subject: Subject) -> str:
    if subject.wanted.labels is not None:
        return "images"
    return "objects" if subject.train.mask_files is None else "masks"


def _count(subject: Subject, side: Side) -> tuple[Counts, bool]:
    """(K,) examples of each class, and whether all of them were counted: images, masks that hold it, or objects."""
    split, classes = subject.splits[side], len(subject.classes)
    if split.image_labels is not None and subject.wanted.labels is not None:
        own = split.image_labels.numpy()
        return (np.bincount(own[own >= 0], minlength=classes) if own.ndim == 1 else (own > 0).sum(0)), True
    if split.mask_files is None:
        return np.bincount(split.labels.numpy()[~split.crowd.numpy()], minlength=classes), True
    held = [mask for mask in subject.masks if mask.side == side and not mask.problem]
    counts = np.zeros(classes, np.int64)
    for mask in held:
        counts[list(mask.classes)] += 1
    return counts, len(held) == len(split)


def _present(subject: Subject, side: Side) -> dict[int, bool]:
    """Whether each image, or each of those looked at, is annotated with anything."""
    split = subject.splits[side]
    if split.image_labels is not None and subject.wanted.labels is not None:
        own = split.image_labels.numpy()
        known = own >= 0 if own.ndim == 1 else ~np.isnan(own.astype(np.float64)).any(axis=1)
        return {index: bool(one) for index, one in enumerate(np.asarray(known))}
    if split.mask_files is None:
        return dict(enumerate((np.diff(split.offsets.numpy()) > 0).tolist()))
    return {mask.index: bool(mask.classes) for mask in subject.masks if mask.side == side and not mask.problem}
