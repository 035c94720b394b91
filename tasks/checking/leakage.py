"""Images, or groups of images, on both sides of the split; images that are there twice.

Equal images are found among all files, by size and then by content. Alike ones are found among those looked at, by the
correlation of their thumbnails; how seldom that errs is told in docs/checking.md.
"""

import hashlib
from collections.abc import Hashable, Iterator

import numpy as np

from backbones.errors import UserError
from tasks.checking.clock import Clock
from tasks.checking.finding import Finding, Kind, Place, Side, first, some
from tasks.checking.looks import stacked
from tasks.checking.subject import Subject
from tasks.data.annotations import Annotations
from tasks.data.folds import group_of_each

ALIKE = 0.93  # correlation of the thumbnails of two images that show the same
BLOCK = 1024  # images that are compared with all others at once

IMAGE_LEAKED = Kind(
    "image-leaked",
    "error",
    "A training and a validation image are the same file, or have the same bytes or pixels.",
    "The metric is measured on what was learnt, and flatters.",
)
IMAGE_NEARLY_LEAKED = Kind(
    "image-nearly-leaked",
    "warning",
    "A training and a validation image show the same: one is a copy of the other in another size, compression or "
    "brightness.",
    "The metric is measured on what was learnt, and flatters.",
)
GROUP_ON_BOTH_SIDES = Kind(
    "group-on-both-sides",
    "error",
    "Images of one group (a patient, as the data or `data.group_by` tells) are in training and in validation.",
    "The metric says how well known patients are recognised, and flatters.",
)
IMAGES_REPEATED = Kind(
    "images-repeated",
    "note",
    "Images with the same pixels within one split.",
    "They count several times, in the loss or in the metric.",
)
LABELS_CONTRADICT = Kind(
    "labels-contradict",
    "warning",
    "Images with the same pixels have different labels.",
    "One of the two is wrong; no network can learn both.",
)


def leaked(subject: Subject) -> Iterator[Finding]:
    """Images on both sides."""
    train, val = subject.train, subject.val
    pairs = _equal_files(train, val, subject.clock.portion(0.1))
    by_digest: dict[bytes, int] = {look.digest: look.index for look in subject.looks.of("train")}
    pairs |= {look.index: by_digest[look.digest] for look in subject.looks.of("val") if look.digest in by_digest}
    if pairs:
        yield Finding(
            IMAGE_LEAKED,
            f"{len(pairs)} of {len(val)} validation images: {_named(subject, pairs)}",
            "no image in both",
            "take them out of one of the two, or split anew (leave data.val out, and set data.group_by)",
            _as_places(pairs),
            pairs=True,
        )
    near = _alike(subject, set(pairs))
    if near:
        yield Finding(
            IMAGE_NEARLY_LEAKED,
            f"{len(near)} of {len(val)} validation images ({subject.looks.describe()} looked at): "
            f"{_named(subject, near)}",
            "no image that is a copy of one on the other side",
            "look at the pictures; take copies out of one of the two, or keep them together by data.group_by",
            _as_places(near),
            pairs=True,
        )


def groups(subject: Subject) -> Iterator[Finding]:
    """Groups on both sides."""
    if subject.config.data.group_by is None and subject.train.groups is None:
        return
    try:
        by_side = {side: group_of_each(split, subject.config.data.group_by) for side, split in subject.splits.items()}
    except UserError:  # the expression was written for one of the two
        return
    both = sorted(set(by_side["train"]) & set(by_side["val"]))
    if not both:
        return
    count = sum(group in set(both) for group in by_side["val"])
    places = [Place(side, names.index(group), group) for group in both for side, names in by_side.items()]
    yield Finding(
        GROUP_ON_BOTH_SIDES,
        f"{len(both)} groups ({some(both)}) with {count} of {len(subject.val)} validation images",
        "all images of a group on one side",
        "split anew by group: leave data.val out, or correct the column of the split",
        first(places),
        pairs=True,
    )


def repeated(subject: Subject) -> Iterator[Finding]:
    """Images that are there twice, and labels that contradict each other."""
    by_digest: dict[bytes, list[Place]] = {}
    for look in subject.looks.seen:
        by_digest.setdefault(look.digest, []).append(Place(look.side, look.index))
    again = [places for places in by_digest.values() if len(places) > 1]
    within = [
        own for places in again for side in ("train", "val") if len(own := [p for p in places if p.side == side]) > 1
    ]
    if within:
        yield Finding(
            IMAGES_REPEATED,
            f"{sum(map(len, within)) - len(within)} images are copies of another one of their split "
            f"({subject.looks.describe()} looked at): {some([' = '.join(map(subject.name, own)) for own in within])}",
            "each image once",
            "take the copies out, unless they are meant to count more",
            first([place for own in within for place in own[:2]]),
            pairs=True,
        )
    if subject.train.image_labels is None:
        return
    other = [places for places in again if len({_label(subject, place) for place in places}) > 1]
    if other:
        names = [", ".join(f"{subject.name(p)}: {_label(subject, p)}" for p in places[:2]) for places in other]
        yield Finding(
            LABELS_CONTRADICT,
            f"{len(other)} images: {some(names)}",
            "one label for one image",
            "look which of them is right",
            first([Place(p.side, p.index, str(_label(subject, p))) for places in other for p in places[:2]]),
            pairs=True,
        )


def _label(subject: Subject, place: Place) -> Hashable:
    labels = subject.splits[place.side].image_labels
    assert labels is not None  # the caller has asked
    own = labels[place.index]
    return subject.classes.names[int(own)] if own.ndim == 0 and own >= 0 else str(own.tolist())


def _equal_files(train: Annotations, val: Annotations, clock: Clock) -> dict[int, int]:
    """Validation images that equal a training image, which is the value; the same file, or the same bytes."""
    if train.pixels is not None or val.pixels is not None:
        return {}  # rows of arrays: told by their pixels
    known = {(train.file(index), train.frame(index)): index for index in range(len(train))}
    pairs = {index: known[own] for index in range(len(val)) if (own := (val.file(index), val.frame(index))) in known}
    if train.frames is not None or val.frames is not None:
        return pairs
    by_size: dict[int, list[int]] = {}
    for index in range(len(train)):
        by_size.setdefault(_bytes_of(train, index), []).append(index)
    hashes: dict[tuple[Side, int], bytes] = {}

    def content(side: Side, split: Annotations, index: int) -> bytes:
        if (side, index) not in hashes:
            hashes[side, index] = hashlib.blake2b(split.file(index).read_bytes(), digest_size=16).digest()
        return hashes[side, index]

    for index in range(len(val)):
        size = _bytes_of(val, index)
        if index in pairs or size <= 0 or not clock.left():
            continue
        for other in by_size.get(size, []):
            if content("val", val, index) == content("train", train, other):
                pairs[index] = other
                break
    return pairs


def _bytes_of(split: Annotations, index: int) -> int:
    try:
        return split.file(index).stat().st_size
    except OSError:
        return -1


def _alike(subject: Subject, known: set[int]) -> dict[int, int]:
    """Validation images that look like a training image, which is the value; none of those known already."""
    train, val = subject.looks.of("train"), [look for look in subject.looks.of("val") if look.index not in known]
    if not train or not val:
        return {}
    ours, theirs = stacked(val), stacked(train)
    found: dict[int, int] = {}
    for start in range(0, len(val), BLOCK):
        correlation = ours[start : start + BLOCK] @ theirs.T
        best = correlation.argmax(axis=1)
        for row in np.flatnonzero(correlation.max(axis=1) >= ALIKE).tolist():
            found[val[start + row].index] = train[int(best[row])].index
    return found


def _as_places(pairs: dict[int, int]) -> tuple[Place, ...]:
    return first([place for own, other in pairs.items() for place in (Place("val", own), Place("train", other))])


def _named(subject: Subject, pairs: dict[int, int]) -> str:
    return some(
        [f"{subject.name(Place('val', own))} = {subject.name(Place('train', other))}" for own, other in pairs.items()]
    )
