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

from tasks.config import SliceAxis
from tasks.data.files.image_file import Exif, Pixels, fit_pixels, read_reduced
from tasks.data.files.mask_files import MaskFiles
from tasks.data.files.reduced_decode import Needed, Size
from tasks.data.formats.image_labels import describe_content
from tasks.data.names import Names
from tasks.data.report import ReadReport
from tasks.data.segments import Segments, gather_ragged
from tasks.image_spec import ImageSpec
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
        names: I file names relative to the root; the frames of one file share its name.
        image_ids: (I,) int64, the data set's own.
        sizes: (I, 2) int32, height and width; 0 0 where the annotations do not say.
        offsets: (I + 1,) int64, where the objects of each image begin and end.
        boxes: (N, 4) float64, x1 y1 x2 y2. Double precision, so that the metric sees the very numbers of the file.
        labels: (N,) int32, 0 .. K-1.
        crowd: (N,) bool.
        areas: (N,) float64, square pixels, as annotated, else those of the box.
        segments: outlines of the objects, or None when they were not read.
        image_labels: what is known of whole images: (I,) int64, 0 .. K-1, of plain and ordinal classes, -1 if unknown;
            (I, K) uint8 of 0 and 1 of multi-label data; (I, K) float32 of regression, NaN if unknown.
        image_label_map: classes of `image_labels`, where they are not those of the objects: they are numbers of
            objects, or came from a table beside the data.
        mask_files: where the class of every pixel is drawn.
        frames: (I,) int32, which frame or slice of its file an image is; None where every file is one image.
        slice_axis: of the slices of a volume.
        pixels: (I, H, W, C) the images themselves, where they are rows of an array and not files.
        groups: what must stay on one side of a split, such as the patient, of each image; None: nothing is known.
        weights: (I,) float32, how often to draw each image in comparison; None: alike.
    """

    split: str
    root: Path
    label_map: LabelMap
    report: ReadReport
    names: Names
    image_ids: Tensor
    sizes: Tensor
    offsets: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    areas: Tensor
    segments: Segments | None = None
    image_labels: Tensor | None = None
    mask_files: MaskFiles | None = None
    frames: Tensor | None = None
    slice_axis: SliceAxis = "axial"
    pixels: Tensor | None = None
    groups: Names | None = None
    weights: Tensor | None = None
    image_label_map: LabelMap | None = None

    @property
    def label_classes(self) -> LabelMap:
        """Classes of `image_labels`."""
        return self.image_label_map or self.label_map

    @property
    def own_image_labels(self) -> Tensor | None:
        """`image_labels`, where they are what the data set itself is about, and its classes theirs."""
        return self.image_labels if self.image_label_map is None else None

    def __len__(self) -> int:
        return len(self.image_ids)

    def name(self, index: int) -> str:
        """File name of an image, relative to the root."""
        return self.names[index]

    def file(self, index: int) -> Path:
        """Path of an image."""
        return self.root / self.name(index)

    def frame(self, index: int) -> int:
        """Which frame or slice of its file an image is."""
        return 0 if self.frames is None else int(self.frames[index])

    def describe(self, index: int) -> str:
        """Path of an image, with its frame or row where the file holds several."""
        return str(self.root / self.title(index))

    def title(self, index: int) -> str:
        """The same, relative to the root."""
        several = self.frames is not None or self.pixels is not None
        number = self.frame(index) if self.frames is not None else self.image_id(index)
        return f"{self.name(index)}[{number}]" if several else self.name(index)

    def image(self, index: int, spec: ImageSpec, exif: Exif = "auto") -> Pixels:
        """(H, W, C) stored pixels of an image, as `read_image` gives them.

        Raises:
            UserError: the image cannot be used.
        """
        return self.reduced_image(index, spec, exif, None)[0]

    def reduced_image(self, index: int, spec: ImageSpec, exif: Exif, needed: Needed | None) -> tuple[Pixels, Size]:
        """An image, perhaps at a reduced scale, and the height and width of the whole one; see `read_reduced`.

        Raises:
            UserError: the image cannot be used.
        """
        if self.pixels is not None:
            image = fit_pixels(self.file(index), self.pixels[index].numpy().copy(), spec)
            return image, (image.shape[0], image.shape[1])
        frame, annotated = self.frame(index), self.size(index)
        return read_reduced(self.file(index), spec, needed, annotated, exif, frame, self.slice_axis)

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

    def outlined(self, index: int) -> npt.NDArray[np.bool_]:
        """(N,) whether each object of an image has an outline; none has if they were not read."""
        start, end = self.offsets[index : index + 2].tolist()
        return np.zeros(end - start, np.bool_) if self.segments is None else self.segments.drawn(slice(start, end))

    def select(self, indices: Sequence[int] | npt.NDArray[np.int64], split: str) -> "Annotations":
        """The split made of these images, in this order."""
        chosen = np.asarray(indices, np.int64)
        offsets, rows = gather_ragged(self.offsets.numpy(), chosen)
        counts = np.diff(offsets)
        report = ReadReport(
            f"{self.report.source} [{split}]",
            len(chosen),
            len(rows),
            int(self.crowd[rows].sum()),
            int((counts == 0).sum()),
        )
        image_labels = _rows(self.image_labels, chosen)
        described = None if self.own_image_labels is None else image_labels
        report.content = describe_content(described, self.mask_files is not None, self.label_map)
        return replace(
            self,
            split=split,
            report=report,
            names=self.names.select(chosen),
            offsets=torch.from_numpy(offsets),
            segments=None if self.segments is None else self.segments.select(rows),
            image_ids=self.image_ids[chosen],
            sizes=self.sizes[chosen],
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            areas=self.areas[rows],
            mask_files=None if self.mask_files is None else self.mask_files.select(chosen),
            groups=None if self.groups is None else self.groups.select(chosen),
            image_labels=image_labels,
            frames=_rows(self.frames, chosen),
            pixels=_rows(self.pixels, chosen),
            weights=_rows(self.weights, chosen),
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
        kinds = (Tensor, Names, Segments, MaskFiles)
        return sum(value.nbytes for f in fields(self) if isinstance(value := getattr(self, f.name), kinds))


def _rows(array: Tensor | None, chosen: npt.NDArray[np.int64]) -> Tensor | None:
    return None if array is None else array[torch.from_numpy(chosen)]
