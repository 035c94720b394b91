"""MNIST and sets of its form: IDX files (http://yann.lecun.com/exdb/mnist, "the IDX file format"), gzipped or not."""

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt
import torch

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.formats.class_list import numbered_classes
from tasks.data.formats.image_labels import class_labels
from tasks.data.formats.readers import Reader, register_reader
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.data.wanted import LabelKind

PREFIXES = {"train": "train", "test": "t10k"}
KINDS = {"images": "idx3", "labels": "idx1"}
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@register_reader("mnist")
class MnistFiles(Reader):
    """`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`, with or without .gz, in the folder itself, in
    `raw/`, or in `NAME/raw/` (`MNIST/raw`, `FashionMNIST/raw`), as torchvision keeps them.
    """

    def __init__(self, root: Path, options: DataConfig | None = None, labels: LabelKind = "single") -> None:
        super().__init__(root, options, labels)
        self._labels: dict[str, npt.NDArray[np.uint8]] = {}

    @classmethod
    def recognises(cls, root: Path) -> bool:
        return root.is_dir() and bool(_folders(root))

    def splits(self) -> list[str]:
        folders = _folders(self.root)
        if len(folders) > 1:
            raise UserError(
                f"{self.root}: holds several data sets ({', '.join(map(str, folders))}); set data.root to one of them"
            )
        return sorted(split for split in PREFIXES if folders and _file(folders[0], split, "images") is not None)

    def read(self, split: str, masks: bool = False) -> Annotations:
        label_file, labels = self._read(split, "labels")
        file, images = self._read(split, "images")
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise UserError(f"{file}: images {images.shape}, labels {labels.shape}; expected a label for each image")
        every = {int(raw) for other in self.splits() for raw in np.unique(self._read(other, "labels")[1])}
        names = FASHION if "fashion" in str(file.resolve()).lower() else None
        label_map = numbered_classes(label_file, every, self.options.class_names or names, self.labels)
        place = np.full(256, -1, np.int64)
        place[list(label_map.ids)] = np.arange(len(label_map))
        return pack_images(
            split=split,
            root=file.parent,
            label_map=label_map,
            report=ReadReport(str(file)),
            names=[file.name] * len(images),
            image_labels=class_labels(label_file, place[labels], label_map, self.labels),
            pixels=torch.from_numpy(images[:, :, :, None]),
        )

    def _read(self, split: str, kind: str) -> tuple[Path, npt.NDArray[np.uint8]]:
        folder = _folders(self.root)[0]
        file = _file(folder, split, kind)
        if file is None:
            raise UserError(f"{folder}: no {PREFIXES[split]}-{kind}-{KINDS[kind]}-ubyte; expected it beside the others")
        if kind == "images":
            return file, _read_idx(file)
        if split not in self._labels:
            self._labels[split] = _read_idx(file)
        return file, self._labels[split]


def _folders(root: Path) -> list[Path]:
    return [
        folder
        for folder in (root, root / "raw", *sorted(root.glob("*/raw")))
        if any(_file(folder, split, "images") is not None for split in PREFIXES)
    ]


def _file(folder: Path, split: str, kind: str) -> Path | None:
    names = (f"{PREFIXES[split]}-{kind}{dot}{KINDS[kind]}-ubyte{end}" for end in ("", ".gz") for dot in "-.")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_idx(file: Path) -> npt.NDArray[np.uint8]:
    """An array of bytes: two zeros, 8 for bytes, the number of axes, their lengths as big-endian int32, the values."""
    try:
        with cast("IO[bytes]", gzip.open(file) if file.suffix == ".gz" else file.open("rb")) as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 3:
                raise UserError(f"{file}: begins with {head!r}; expected an IDX file of bytes")
            shape = np.frombuffer(stream.read(4 * head[3]), ">i4").tolist()
            # No more than was promised, and a byte to see whether there is more: a small .gz may hold any size.
            values = stream.read(prod(shape) + 1) if len(shape) == head[3] and min(shape) >= 0 else b""
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: cannot be read ({error}); expected a whole IDX file: copy it again") from None
    if len(shape) != head[3] or len(values) != prod(shape):
        raise UserError(
            f"{file}: holds {'more' if len(values) > prod(shape) else 'fewer'} values than {shape} says; expected a "
            "whole IDX file: copy it again"
        )
    return np.frombuffer(values, np.uint8).reshape(shape).copy()
