"""Builds the flat arrays of `Annotations` from what a reader has found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tasks.data.annotations import Annotations
from tasks.data.formats.image_labels import describe_content
from tasks.data.names import Names
from tasks.data.report import ReadReport
from tasks.data.segments import Segments
from tasks.label_map import LabelMap


def pack(
    *,
    split: str,
    root: Path,
    label_map: LabelMap,
    report: ReadReport,
    names: Sequence[str],
    image_ids: Sequence[int],
    sizes: npt.ArrayLike,
    image_of: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    crowd: npt.NDArray[np.bool_],
    areas: npt.NDArray[np.float64],
    segments: Segments | None = None,
) -> Annotations:
    """Build `Annotations` from objects in any order, and complete its report's counts.

    Args:
        image_of: (N,) index of the image that each object lies in; objects of an image keep their order.
        The others are as in `Annotations`.
    """
    order = np.argsort(image_of, kind="stable")
    counts = np.bincount(image_of, minlength=len(names)) if len(image_of) else np.zeros(len(names), np.int64)
    report.images, report.boxes = len(names), len(order)
    report.crowd, report.without_boxes = int(crowd.sum()), int((counts == 0).sum())
    return Annotations(
        split=split,
        root=root,
        label_map=label_map,
        report=report,
        names=Names.pack(names),
        image_ids=torch.from_numpy(np.asarray(image_ids, np.int64)),
        sizes=torch.from_numpy(np.asarray(sizes, np.int32).reshape(-1, 2)),
        offsets=torch.from_numpy(_ends(counts)),
        boxes=torch.from_numpy(boxes[order].reshape(-1, 4)),
        labels=torch.from_numpy(labels[order].astype(np.int32)),
        crowd=torch.from_numpy(crowd[order]),
        areas=torch.from_numpy(areas[order]),
        segments=None if segments is None else segments.select(order),
    )


def pack_images(
    *,
    split: str,
    root: Path,
    label_map: LabelMap,
    report: ReadReport,
    names: Sequence[str],
    image_ids: Sequence[int] | None = None,
    **others: Any,
) -> Annotations:
    """Build `Annotations` of images that have no objects: of labels of images, or of masks.

    Args:
        image_ids: 1, 2, ... if None.
        others: the optional fields of `Annotations`.
    """
    count = len(names)
    report.images = report.without_boxes = count
    report.content = describe_content(others.get("image_labels"), others.get("mask_files") is not None, label_map)
    return Annotations(
        split=split,
        root=root,
        label_map=label_map,
        report=report,
        names=Names.pack(names),
        image_ids=torch.arange(1, count + 1) if image_ids is None else torch.tensor(image_ids, dtype=torch.int64),
        sizes=torch.zeros(count, 2, dtype=torch.int32),
        offsets=torch.zeros(count + 1, dtype=torch.int64),
        boxes=torch.zeros(0, 4, dtype=torch.float64),
        labels=torch.zeros(0, dtype=torch.int32),
        crowd=torch.zeros(0, dtype=torch.bool),
        areas=torch.zeros(0, dtype=torch.float64),
        **others,
    )


def _ends(counts: npt.ArrayLike) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
