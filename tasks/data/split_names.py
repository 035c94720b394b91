"""Which of the splits of a data set to train on and which to validate on, told from their names."""

import re

from backbones.errors import UserError

SPLIT = re.compile(r"(train|training|trainval|val|valid|validation|dev|test|testing)\d*", re.IGNORECASE)


def is_split_name(name: str) -> bool:
    """Whether a file or folder of this name is a split: train, val, valid, test, train2017, ..."""
    return SPLIT.fullmatch(name) is not None


def choose_splits(names: list[str], train: str | None = None, val: str | None = None) -> tuple[str | None, str | None]:
    """Which of the splits to train on and which to validate on; at least one of the two.

    A name that was asked for is taken as it is; otherwise "train" or else the first name that contains it, and
    likewise "val", "valid", "test" in this order. "trainval" holds what "val" holds, so the two are never paired.

    Raises:
        UserError: a name that was asked for is not there.
    """
    for field, asked in (("train", train), ("val", val)):
        if asked is not None and asked not in names:
            raise UserError(f"data.{field} is {asked!r}; expected one of the splits found: {', '.join(names)}")
    found_train = train or _best([n for n in names if n != val], ("train",))
    others = [n for n in names if n != found_train and "train" not in n]
    if found_train is not None and "trainval" in found_train:
        others = [n for n in others if "val" not in n]
    found_val = val or _best(others, ("val", "test"))
    if found_train is None and len(names) > 1:
        rest = [n for n in names if n != found_val]
        found_train = rest[0] if len(rest) == 1 and "test" not in rest[0] and "val" not in rest[0] else None
    if found_train is not None:
        return (found_train, found_val) if found_val is not None else (found_train, None)
    if found_val is not None:
        return None, found_val
    if len(names) > 1:
        raise UserError(f"cannot tell which split to train on; set data.train to one of {', '.join(names)}")
    return names[0], None


def _best(names: list[str], words: tuple[str, ...]) -> str | None:
    for word in words:
        holding = sorted(
            (n for n in names if word in n.lower()), key=lambda n: (n.lower() != word, "trainval" in n, len(n), n)
        )
        if holding:
            return holding[0]
    return None
