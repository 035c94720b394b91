"""Labels of images for data that brings boxes or masks: counted from its objects, or read from a table beside it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backbones.errors import UserError
from tasks.data.annotations import Annotations
from tasks.data.formats.csv_table import CsvTable
from tasks.data.formats.image_labels import describe_labels
from tasks.data.wanted import LabelKind
from tasks.data_config import ObjectCounts
from tasks.label_map import LabelMap

ALL = LabelMap(ids=(0,), names=("objects",))


def with_object_counts(annotations: Annotations, counted: ObjectCounts, labels: LabelKind) -> Annotations:
    """The split with the number of objects of each image as its labels; crowd regions are not counted.

    Args:
        annotations: with boxes.
        counted: "all" objects together as one number, or those of "each" class.
        labels: what the head takes labels for.

    Raises:
        UserError: not for numbers.
    """
    if labels != "regression":
        raise UserError(
            f"data.count_objects is {counted!r}, which gives numbers, but the target of a head for labels is "
            f"{labels!r}; set the head's target to 'regression', or data.count_objects to None"
        )
    classes = len(annotations.label_map)
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.offsets.numpy()))
    kept = ~annotations.crowd.numpy()
    counts = np.zeros((len(annotations), classes), np.float32)
    np.add.at(counts, (owner[kept], annotations.labels.numpy()[kept]), 1)
    values = torch.from_numpy(counts if counted == "each" else counts.sum(axis=1, keepdims=True))
    return _with(annotations, values, annotations.label_map if counted == "each" else ALL)


def count_objects(
    labels: npt.NDArray[np.int64], crowd: npt.NDArray[np.bool_], classes: int, counted: ObjectCounts
) -> npt.NDArray[np.float32]:
    """(K,) of one image, as `with_object_counts` gives them: what is left of it after it was changed.

    Args:
        labels: (N,) of its objects, 0 .. classes - 1.
        crowd: (N,).
        classes: of the objects.
        counted: as above.
    """
    counts = np.bincount(labels[~crowd], minlength=classes).astype(np.float32)
    return counts if counted == "each" else counts.sum(keepdims=True)


def with_labels_of(annotations: Annotations, table: CsvTable) -> Annotations:
    """The split with the labels that a table has for its images; images that it does not name have none.

    Args:
        annotations: of files.
        table: names the same files.

    Raises:
        UserError: it has none of the images, or not all of them and cannot leave some open.
    """
    known: dict[str, tuple[int, int]] = {}
    parts = [table.read(split) for split in table.splits()]
    for number, part in enumerate(parts):
        known |= {_key(part.file(row)): (number, row) for row in range(len(part))}
    places = [known.get(_key(annotations.file(index))) for index in range(len(annotations))]
    missing = [index for index, place in enumerate(places) if place is None]
    if len(missing) == len(places):
        raise UserError(
            f"{table.root}: names none of the {len(places)} images of {annotations.report.source}, such as "
            f"{annotations.name(0)}; expected their paths, relative to the table"
        )
    labels = _gather([part.image_labels for part in parts if part.image_labels is not None], places)
    if missing and labels.dtype == torch.uint8:
        raise UserError(
            f"{table.root}: has no line for {annotations.name(missing[0])} ({len(missing)} such); labels of several "
            "classes must be known of every image"
        )
    joined = _with(annotations, labels, parts[0].label_map)
    joined.report.notes.append(f"{table.root.name}: {describe_labels(labels, parts[0].label_map)}")
    return joined


def _gather(tables: Sequence[Tensor], places: Sequence[tuple[int, int] | None]) -> Tensor:
    """Rows of tables (part, row) in the order of `places`; where there is none, -1 or NaN."""
    first = tables[0]
    unknown = first.new_full(first.shape[1:], torch.nan if first.is_floating_point() else -1 if first.ndim == 1 else 0)
    return torch.stack([unknown if place is None else tables[place[0]][place[1]] for place in places])


def _with(annotations: Annotations, labels: Tensor, classes: LabelMap) -> Annotations:
    return replace(annotations, image_labels=labels, image_label_map=classes, report=replace(annotations.report))


def _key(file: Path) -> str:
    return os.path.normpath(os.path.abspath(file))
