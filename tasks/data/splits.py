"""From `data.*` in a config to the two splits that a run needs, found, asked for, or made."""

import random
import re

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations

# Importing a reader's module registers it.
from tasks.data.cells import CellsFolder
from tasks.data.coco import CocoFolder
from tasks.data.readers import Reader, readers
from tasks.data.voc import VocFolder
from tasks.seeding import derive_seed

BUILT_IN = {"coco": CocoFolder, "voc": VocFolder, "cells": CellsFolder}


def open_splits(config: DataConfig, seed: int, masks: bool = False) -> tuple[Annotations, Annotations, list[str]]:
    """The training and the validation split, and what a person should be told about them, a line each.

    A split that is not there is made from the other: a share of `val_fraction` of the images, drawn by `seed`, is held
    out; images that `group_by` puts together stay on one side.

    Args:
        config: root, format, names of the splits, how to make one.
        seed: of a made split.
        masks: also read the outlines of objects.

    Raises:
        UserError: no data there, a split that was asked for is not among those found, splits that disagree on the
            classes, no training images, or anything that a reader refuses.
    """
    reader = _open_reader(config)
    names = reader.splits()
    train_name, val_name = choose_splits(names, config.train, config.val)
    messages = []
    if train_name is not None and val_name is not None:
        train, val = reader.read(train_name, masks), reader.read(val_name, masks)
        reports = [train.report, val.report]
    else:
        first = reader.read(train_name or val_name or names[0], masks)
        reports = [first.report]
        train, val = make_split(first, config.val_fraction, config.group_by, seed)
        missing = "validation" if train_name else "training"
        how = f", grouped by {config.group_by}" if config.group_by else ""
        messages.append(
            f"{reader.root}: no {missing} split found; made one: {len(train)} images of {first.split!r} to train "
            f"on, {len(val)} held "
            f"out (seed {seed}{how})"
        )
    if train.label_map != val.label_map:
        raise UserError(
            f"{reader.root}: the splits {train.split!r} and {val.split!r} list different categories "
            f"({train.label_map} | "
            f"{val.label_map}); expected the same ids and names in both"
        )
    for split in (train, val):
        if not len(split):
            raise UserError(f"{split.report.source}: 0 images in the split {split.split!r}; expected at least one")
    if not len(train.boxes):
        raise UserError(
            f"{train.report.source}: no usable box in the split {train.split!r}; expected at least one to learn from"
        )
    messages += map(str, reports)
    shared = len({train.file(i) for i in range(len(train))} & {val.file(i) for i in range(len(val))})
    if shared:
        messages.append(
            f"{shared} images are in {train.split!r} and in {val.split!r}: the metric will flatter; choose with "
            "data.train, data.val"
        )
    return train, val, messages


def _open_reader(config: DataConfig) -> Reader:
    if config.format == "cells":
        return CellsFolder(config.root)
    root = config.root
    if root is None:
        raise UserError(
            "data.root is not set; give the folder of images and annotations, or data.format=cells for a sample"
        )
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"data.root {root} {what}; expected a folder with COCO json or Pascal VOC data")
    if config.format != "auto":
        reader = readers.build(config.format, root)
    else:
        found = [reader for reader in BUILT_IN.values() if reader.recognises(root)]
        if not found:
            raise UserError(
                f"data.root {root}: no annotations found; expected COCO json (annotations/instances_*.json, *.json, "
                "*/_annotations.coco.json) or Pascal VOC xml (Annotations/*.xml); set data.format for another kind"
            )
        reader = found[0](root)
    if not reader.splits():
        raise UserError(
            f"data.root {root}: no split found by the reader {config.format!r}; check data.format and data.root"
        )
    return reader


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


def make_split(
    split: Annotations, val_fraction: float, group_by: str | None, seed: int
) -> tuple[Annotations, Annotations]:
    """Hold out a share of the images.

    Args:
        split: what to divide.
        val_fraction: share of the images held out, between 0 and 1; whole groups are, so it is met only nearly.
        group_by: regular expression searched in the file name; images whose first group (or whole match) is equal stay
            together.
        seed: of the draw.

    Raises:
        UserError: the expression is none or does not match, or there are too few images or groups.
    """
    groups: dict[str, list[int]] = {}
    for index in range(len(split)):
        name = split.name(index)
        groups.setdefault(name if group_by is None else _group(name, group_by), []).append(index)
    if len(groups) < 2:
        raise UserError(
            f"{split.report.source}: a split cannot be made from {len(split)} images in {len(groups)} groups; "
            "expected at least 2 "
            "groups: change data.group_by or give a second split"
        )
    keys = sorted(groups)
    random.Random(derive_seed(seed, "split")).shuffle(keys)
    wanted, held_out = val_fraction * len(split), 0
    val: list[int] = []
    for key in keys[:-1]:  # one group is left to train on
        # Nearest to the wanted number, but never nothing.
        if val and abs(held_out + len(groups[key]) - wanted) >= abs(held_out - wanted):
            break
        val += groups[key]
        held_out += len(groups[key])
    held = set(val)
    train = [index for index in range(len(split)) if index not in held]
    return split.select(train, f"{split.split}-train"), split.select(sorted(val), f"{split.split}-val")


def _group(name: str, pattern: str) -> str:
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise UserError(f"data.group_by {pattern!r} is not a regular expression ({error})") from None
    if match is None:
        raise UserError(
            f"data.group_by {pattern!r} does not match the file name {name!r}; expected it to match every one"
        )
    return (match.group(1) or "") if match.re.groups else match.group()
