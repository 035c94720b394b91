"""All annotations of one split, packed into a few flat arrays.

A Python object for each box costs hundreds of bytes, and every loader process ends up with its own copy, because
reading an object writes its reference count. Flat memory is never written: forked workers share its pages, and spawned
workers map the same shared memory, since the arrays are torch tensors, which torch's multiprocessing passes by handle.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tasks.data.report import ReadReport
from tasks.data.segments import Segments, gather_ragged
from tasks.label_map import LabelMap


@dataclass(frozen=True, slots=True)
class Objects:
    """The annotated objects of one image, N of them.

    Attributes:
        boxes: (N, 4) float64, x1 y1 x2 y2 in pixels of the stored annotation.
        labels: (N,) int64, 0 .. K-1.
        crowd: (N,) bool.
        areas: (N,) float64, square pixels.
    """

    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """One split: I images, N objects in the order of their images.

    Attributes:
        split: its name: "train2017".
        root: folder that file names are relative to.
        label_map: classes.
        report: what the reader found.
        names: uint8, the UTF-8 bytes of all file names, one after another.
        name_ends: (I + 1,) int64, where each name begins and ends.
        image_ids: (I,) int64, the data set's own.
        sizes: (I, 2) int32, height and width; 0 0 where the annotations do not say.
        offsets: (I + 1,) int64, where the objects of each image begin and end.
        boxes: (N, 4) float64, x1 y1 x2 y2. Double precision, so that the metric sees the very numbers of the file.
        labels: (N,) int32, 0 .. K-1.
        crowd: (N,) bool.
        areas: (N,) float64, square pixels, as annotated, else those of the box.
        segments: outlines of the objects, or None when they were not read.
    """

    split: str
    root: Path
    label_map: LabelMap
    report: ReadReport
    names: Tensor
    name_ends: Tensor
    image_ids: Tensor
    sizes: Tensor
    offsets: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    areas: Tensor
    segments: Segments | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    def name(self, index: int) -> str:
        """File name of an image, relative to the root."""
        start, end = self.name_ends[index : index + 2].tolist()
        return bytes(self.names[start:end].numpy()).decode()

    def file(self, index: int) -> Path:
        """Path of an image."""
        return self.root / self.name(index)

    def image_id(self, index: int) -> int:
        """The data set's own id of an image."""
        return int(self.image_ids[index])

    def size(self, index: int) -> tuple[int, int] | None:
        """Annotated (height, width) of an image, None if the annotations do not say."""
        height, width = self.sizes[index].tolist()
        return (height, width) if height else None

    def objects(self, index: int) -> Objects:
        """The objects of an image, as copies."""
        start, end = self.offsets[index : index + 2].tolist()
        return Objects(
            self.boxes[start:end].numpy().copy(),
            self.labels[start:end].numpy().astype(np.int64),
            self.crowd[start:end].numpy().copy(),
            self.areas[start:end].numpy().copy(),
        )

    def masks(self, index: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """(N, H, W) uint8 of 0 and 1, the filled outlines of the objects of an image of `size` (height, width).

        An object without an outline fills its box.

        Raises:
            ValueError: the split was read without outlines.
        """
        if self.segments is None:
            raise ValueError(f"{self.report.source} was read without segmentations; read it with masks=True")
        start, end = self.offsets[index : index + 2].tolist()
        masks = np.zeros((end - start, *size), np.uint8)
        for mask, row in zip(masks, range(start, end), strict=True):
            decoded = self.segments.decode(row, size)
            if decoded is not None:
                mask[:] = decoded
            else:
                x1, y1, x2, y2 = np.round(self.boxes[row].numpy()).astype(int)
                mask[max(y1, 0) : y2, max(x1, 0) : x2] = 1
        return masks

    def select(self, indices: Sequence[int] | npt.NDArray[np.int64], split: str) -> "Annotations":
        """The split made of these images, in this order."""
        chosen = np.asarray(indices, np.int64)
        name_ends, letters = gather_ragged(self.name_ends.numpy(), chosen)
        offsets, rows = gather_ragged(self.offsets.numpy(), chosen)
        counts = np.diff(offsets)
        report = ReadReport(
            f"{self.report.source} [{split}]",
            len(chosen),
            len(rows),
            int(self.crowd[rows].sum()),
            int((counts == 0).sum()),
        )
        return replace(
            self,
            split=split,
            report=report,
            names=self.names[letters],
            name_ends=torch.from_numpy(name_ends),
            offsets=torch.from_numpy(offsets),
            segments=None if self.segments is None else self.segments.select(rows),
            image_ids=self.image_ids[chosen],
            sizes=self.sizes[chosen],
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            areas=self.areas[rows],
        )

    def to_coco(self) -> dict[str, Any]:
        """The split as a COCO ground truth: images, annotations with raw category ids and ids from 1, categories.

        Boxes are x, y, width, height; outlines are included when they were read.
        """
        sizes, ids = self.sizes.tolist(), self.image_ids.tolist()
        images = [
            {"id": ids[i], "file_name": self.name(i), "height": sizes[i][0], "width": sizes[i][1]}
            for i in range(len(self))
        ]
        owner = np.repeat(self.image_ids.numpy(), np.diff(self.offsets.numpy())).tolist()
        category = np.asarray(self.label_map.ids, np.int64)[self.labels.numpy()].tolist()
        corners = self.boxes.numpy()
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
        rows = zip(owner, category, boxes, self.areas.tolist(), self.crowd.tolist(), strict=True)
        annotations: list[dict[str, Any]] = [
            {"id": row, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
            for row, (image, label, box, area, crowd) in enumerate(rows, 1)
        ]
        if self.segments is not None:
            heights = np.repeat(self.sizes.numpy(), np.diff(self.offsets.numpy()), axis=0).tolist()
            for row, annotation in enumerate(annotations):
                annotation["segmentation"] = self.segments.to_coco(row, heights[row])
        categories = [
            {"id": raw, "name": name} for raw, name in zip(self.label_map.ids, self.label_map.names, strict=True)
        ]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays together."""
        own = sum(value.nbytes for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor))
        return own + (0 if self.segments is None else self.segments.nbytes)


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
    encoded = [name.encode() for name in names]
    report.images, report.boxes = len(names), len(order)
    report.crowd, report.without_boxes = int(crowd.sum()), int((counts == 0).sum())
    return Annotations(
        split=split,
        root=root,
        label_map=label_map,
        report=report,
        names=torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy()),
        name_ends=torch.from_numpy(_ends([len(name) for name in encoded])),
        image_ids=torch.from_numpy(np.asarray(image_ids, np.int64)),
        sizes=torch.from_numpy(np.asarray(sizes, np.int32).reshape(-1, 2)),
        offsets=torch.from_numpy(_ends(counts)),
        boxes=torch.from_numpy(boxes[order].reshape(-1, 4)),
        labels=torch.from_numpy(labels[order].astype(np.int32)),
        crowd=torch.from_numpy(crowd[order]),
        areas=torch.from_numpy(areas[order]),
        segments=None if segments is None else segments.select(order),
    )


def _ends(counts: npt.ArrayLike) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
