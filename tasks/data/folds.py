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
    content = content_of_each(annotations)
    counts = np.zeros((len(distinct), content.shape[1]))
    np.add.at(counts, group, content)
    part = _deal(counts, np.asarray(shares), random.Random(seed))
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


def content_of_each(annotations: Annotations) -> Counts:
    """(I, K + 2) of 0 and 1: which classes each image holds, whether none, and a 1 to count images.

    From the labels of images if there are any, else from the boxes, else from the masks.
    """
    count, classes = len(annotations), len(annotations.label_map)
    content = np.zeros((count, classes + 2))
    if annotations.image_labels is not None:
        labels = annotations.image_labels.numpy()
        if labels.ndim == 1:
            known = np.flatnonzero(labels >= 0)
            content[known, labels[known]] = 1
        elif labels.dtype == np.uint8:
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
    return content


def _deal(counts: Counts, shares: Counts, draw: random.Random) -> Indices:
    """(G,) part of each group, from (G, K) what the groups hold and (P,) what share each part should get."""
    part = np.full(len(counts), -1, np.int64)
    held = np.zeros((len(shares), counts.shape[1]))
    rest: list[int] = []
    kinds, kind = np.unique(counts, axis=0, return_inverse=True)
    order = np.argsort(kind, kind="stable")
    for row, alike in zip(kinds, np.split(order, np.cumsum(np.bincount(kind))[:-1]), strict=True):
        members = alike.tolist()
        draw.shuffle(members)
        for number, share in enumerate(shares):
            sure = int(share * len(alike) + 1e-9)
            part[members[:sure]] = number
            held[number] += sure * row
            members = members[sure:]
        rest += members
    draw.shuffle(rest)
    total = counts.sum(axis=0)
    weight = 1 / np.maximum(total, 1) ** 2
    rest.sort(key=lambda group: -float((counts[group] / np.maximum(total, 1)).sum()))
    for _ in range(ROUNDS):
        before = part[rest]
        for group in rest:
            if part[group] >= 0:
                held[part[group]] -= counts[group]
            # How much the sum over parts and classes of (held / share / total) ** 2 * share grows: it is least when
            # all parts hold their share of everything.
            growth = ((2 * held + counts[group]) * counts[group] * weight).sum(axis=1) / shares
            part[group] = int(growth.argmin())
            held[part[group]] += counts[group]
        if (part[rest] == before).all():
            break
    for empty in np.flatnonzero(np.bincount(part, minlength=len(shares)) == 0).tolist():
        sizes = np.bincount(part, weights=counts[:, -1], minlength=len(shares))
        several = np.bincount(part, minlength=len(shares)) > 1
        members = np.flatnonzero(part == np.where(several, sizes, -1).argmax()).tolist()
        draw.shuffle(members)
        part[min(members, key=lambda group: float(counts[group, -1]))] = empty
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
