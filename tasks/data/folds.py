"""Parts of a split in which each class has its share and nothing that belongs together is torn apart.

What `Annotations.groups`, `data.group_by` or one file with several frames put together stays in one part. Groups of
equal content are dealt out by the wanted shares; the rest go one after another, those with the rarest content first,
to the part that then lacks least: as scikit-learn's StratifiedGroupKFold, but with several classes an image and parts
of unequal size.
"""

import random
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.data.annotations import Annotations
from tasks.seeding import derive_seed

ROUNDS = 5  # the first places the groups, the others look whether one is better moved

Indices = npt.NDArray[np.int64]
Counts = npt.NDArray[np.float64]


def make_folds(annotations: Annotations, folds: int, seed: int, group_by: str | None = None) -> list[Indices]:
    """Divide a split into `folds` parts of about equal size: (F,) arrays of image indices, each sorted.

    Every image is in exactly one part, all images of a group in the same.

    Args:
        annotations: the split.
        folds: number of parts.
        seed: of the draw.
        group_by: as in `group_of_each`.

    Raises:
        UserError: there are fewer groups than parts, or see `group_of_each`.
    """
    return divide(annotations, [1.0 / folds] * folds, derive_seed(seed, "folds", folds), group_by)


def divide(annotations: Annotations, shares: Sequence[float], seed: int, group_by: str | None = None) -> list[Indices]:
    """Parts of a split of about these shares, which add up to 1; none is empty. See `make_folds`."""
    names = group_of_each(annotations, group_by)
    distinct, group = np.unique(names, return_inverse=True)
    if len(distinct) < len(shares):
        raise UserError(
            f"{annotations.report.source}: a split into {len(shares)} cannot be made from {len(annotations)} images in "
            f"{len(distinct)} groups; expected at least {len(shares)} groups: change data.group_by or data.folds, or "
            "give a second split"
        )
    kinds, kind = content_of_each(annotations)
    if len(distinct) < len(annotations):
        counts = np.zeros((len(distinct), kinds.shape[1]))
        np.add.at(counts, group, kinds[kind])
        kinds, kind = _distinct_rows(counts)
    else:  # each image is a group; there may be millions, so no row of counts for each
        kind = kind[np.argsort(group)]
    part = _deal(kinds, kind, np.asarray(shares), random.Random(seed))
    return [np.flatnonzero(part[group] == number) for number in range(len(shares))]


def group_of_each(annotations: Annotations, group_by: str | None = None) -> list[str]:
    """(I,) names of what must stay together: the groups of the data set if it has them, else the first group (or the
    whole match) of the regular expression `group_by` in the file name, else the file itself.

    Raises:
        UserError: the expression is none, or does not match a name.
    """
    if annotations.groups is not None:
        return list(annotations.groups)
    if group_by is not None:
        return [_match(name, group_by) for name in annotations.names]
    if annotations.pixels is not None:  # rows of one file, each an image of its own
        return [f"{index:012d}" for index in range(len(annotations))]
    return list(annotations.names)


def content_of_each(annotations: Annotations) -> tuple[Counts, Indices]:
    """What images hold: (M, K + 2) of 0 and 1, which classes, whether none, and a 1 to count images; and which of
    these M rows each image has, (I,).

    From the labels of images if the data is about them, else from the masks, else from the boxes.
    """
    count, classes = len(annotations), len(annotations.label_map)
    labels = None if annotations.own_image_labels is None else annotations.own_image_labels.numpy()
    if labels is not None and labels.ndim == 1:
        kinds = np.concatenate([np.eye(classes + 1), np.ones((classes + 1, 1))], axis=1)
        return kinds, np.where(labels < 0, classes, labels)
    content = np.zeros((count, classes + 2))
    if labels is not None:
        if labels.dtype == np.uint8:
            content[:, :classes] = labels
        else:
            content = np.concatenate([_quintiles(labels[:, 0]), np.zeros((count, 2))], axis=1)
    elif annotations.mask_files is not None:
        frames = [annotations.frame(index) for index in range(count)]
        masks, axis = annotations.mask_files, annotations.slice_axis
        content[:, :classes] = masks.present(annotations.root, annotations.label_map, frames, axis)
    else:
        owner = np.repeat(np.arange(count), np.diff(annotations.offsets.numpy()))
        content[owner, annotations.labels.numpy()] = 1
    content[:, -2] = content[:, :-2].sum(axis=1) == 0
    content[:, -1] = 1
    return _distinct_rows(content)


def _distinct_rows(counts: Counts) -> tuple[Counts, Indices]:
    kinds, kind = np.unique(counts, axis=0, return_inverse=True)
    return kinds, kind.reshape(-1)


def _deal(kinds: Counts, kind: Indices, shares: Counts, draw: random.Random) -> Indices:
    """(G,) part of each group.

    Args:
        kinds: (M, K) what groups may hold; the last column is their number of images.
        kind: (G,) which of these rows each group has.
        shares: (P,) what share of everything each part should get.
        draw: of the groups that are alike.
    """
    part = np.full(len(kind), -1, np.int64)
    held = np.zeros((len(shares), kinds.shape[1]))
    rest: list[int] = []
    numbers = np.bincount(kind, minlength=len(kinds))
    order = np.argsort(kind, kind="stable")
    for row, alike in zip(kinds, np.split(order, np.cumsum(numbers)[:-1]), strict=True):
        members = alike.tolist()
        draw.shuffle(members)
        for number, share in enumerate(shares):
            sure = int(share * len(alike) + 1e-9)
            part[members[:sure]] = number
            held[number] += sure * row
            members = members[sure:]
        rest += members
    draw.shuffle(rest)
    total = np.maximum(numbers @ kinds, 1)
    weight, rarity = 1 / total**2, (kinds / total).sum(axis=1)
    rest.sort(key=lambda group: -float(rarity[kind[group]]))
    for _ in range(ROUNDS):
        before = part[rest]
        for group in rest:
            own = kinds[kind[group]]
            if part[group] >= 0:
                held[part[group]] -= own
            # How much the sum over parts and classes of (held / share / total) ** 2 * share grows: it is least when
            # all parts hold their share of everything.
            growth = ((2 * held + own) * own * weight).sum(axis=1) / shares
            part[group] = int(growth.argmin())
            held[part[group]] += own
        if (part[rest] == before).all():
            break
    for empty in np.flatnonzero(np.bincount(part, minlength=len(shares)) == 0).tolist():
        sizes = np.bincount(part, weights=kinds[kind, -1], minlength=len(shares))
        several = np.bincount(part, minlength=len(shares)) > 1
        members = np.flatnonzero(part == np.where(several, sizes, -1).argmax()).tolist()
        draw.shuffle(members)
        part[min(members, key=lambda group: float(kinds[kind[group], -1]))] = empty
    return part


def _quintiles(numbers: npt.NDArray[np.float32]) -> Counts:
    """(I, 5) in which fifth of the known numbers each one lies; nowhere if unknown."""
    edges = np.nanquantile(numbers, (0.2, 0.4, 0.6, 0.8)) if not np.isnan(numbers).all() else np.zeros(4)
    fifths = np.eye(5)[np.searchsorted(edges, np.nan_to_num(numbers))]
    fifths[np.isnan(numbers)] = 0
    return fifths


def _match(name: str, pattern: str) -> str:
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise UserError(f"data.group_by {pattern!r} is not a regular expression ({error})") from None
    if match is None:
        raise UserError(
            f"data.group_by {pattern!r} does not match the file name {name!r}; expected it to match every one"
        )
    return (match.group(1) or "") if match.re.groups else match.group()
