"""CIFAR-10 and CIFAR-100 (Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009), in both forms that
they are published in.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from backbones.arrays_only import load_arrays
from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.formats.class_list import numbered_classes
from tasks.data.formats.image_labels import class_labels
from tasks.data.formats.readers import Reader, register_reader
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.data.wanted import LabelKind

SIDE, CHANNELS = 32, 3
PIXELS = SIDE * SIDE * CHANNELS
Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Form:
    """One of the published forms.

    Attributes:
        folder: its name.
        files: of each split.
        names: file of the class names.
        key: of the labels, in a pickle, and of their names.
        label_bytes: in front of an image, the last of which counts; 0 for pickles.
    """

    folder: str
    files: dict[str, tuple[str, ...]]
    names: str
    key: tuple[str, str] = ("", "")
    label_bytes: int = 0


BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
FORMS = (
    _Form(
        "cifar-10-batches-py", {"train": BATCHES, "test": ("test_batch",)}, "batches.meta", ("labels", "label_names")
    ),
    _Form("cifar-100-python", {"train": ("train",), "test": ("test",)}, "meta", ("fine_labels", "fine_label_names")),
    _Form(
        "cifar-10-batches-bin",
        {"train": tuple(f"{name}.bin" for name in BATCHES), "test": ("test_batch.bin",)},
        "batches.meta.txt",
        label_bytes=1,
    ),
    _Form("cifar-100-binary", {"train": ("train.bin",), "test": ("test.bin",)}, "fine_label_names.txt", label_bytes=2),
)


@register_reader("cifar")
class CifarBatches(Reader):
    """`cifar-10-batches-py/`, `cifar-100-python/`, `cifar-10-batches-bin/` or `cifar-100-binary/`, in the folder or the
    folder itself. Pickles are read without running anything that they ask for. The classes of CIFAR-100 are the fine
    ones.
    """

    def __init__(self, root: Path, options: DataConfig | None = None, labels: LabelKind = "single") -> None:
        super().__init__(root, options, labels)

    @classmethod
    def recognises(cls, root: Path) -> bool:
        return root.is_dir() and bool(_found(root))

    def splits(self) -> list[str]:
        found = _found(self.root)
        if len({form.folder for form, _ in found}) > 1:
            raise UserError(
                f"{self.root}: holds {', '.join(form.folder for form, _ in found)}; set data.root to one of them"
            )
        return sorted(split for form, folder in found for split in form.files if _files(form, folder, split))

    def read(self, split: str, masks: bool = False) -> Annotations:
        form, folder = _found(self.root)[0]
        files = _files(form, folder, split)
        report = ReadReport(f"{folder} [{split}]")
        if len(files) < len(form.files[split]):
            report.notes.append(f"{len(files)} of {len(form.files[split])} files are there")
        parts = [_read_bytes(file, form) if form.label_bytes else _read_pickle(file, form) for file in files]
        images = np.concatenate([images for images, _ in parts]).reshape(-1, CHANNELS, SIDE, SIDE)
        labels = np.concatenate([labels for _, labels in parts])
        names = _class_names(folder, form)
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
            raise UserError(
                f"{folder}: the labels reach from {labels.min()} to {labels.max()} for {len(names)} classes"
            )
        label_map = numbered_classes(folder, range(len(names)), self.options.class_names or names, self.labels)
        return pack_images(
            split=split,
            root=folder,
            label_map=label_map,
            report=report,
            names=[file.name for file, (part, _) in zip(files, parts, strict=True) for _ in part],
            image_labels=class_labels(folder, labels, label_map, self.labels),
            pixels=torch.from_numpy(np.ascontiguousarray(images.transpose(0, 2, 3, 1))),
        )


def _found(root: Path) -> list[tuple[_Form, Path]]:
    """Forms that are there, each with its folder."""
    return [
        (form, folder)
        for form in FORMS
        for folder in (root / form.folder, root)
        if (folder / form.names).is_file() and any(_files(form, folder, split) for split in form.files)
    ]


def _files(form: _Form, folder: Path, split: str) -> list[Path]:
    return [folder / name for name in form.files[split] if (folder / name).is_file()]


def _class_names(folder: Path, form: _Form) -> tuple[str, ...]:
    file = folder / form.names
    if form.label_bytes:
        names: Any = file.read_text(encoding="utf-8", errors="replace").split()
    else:
        content = load_arrays(file)
        names = content.get(form.key[1]) if isinstance(content, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{file}: holds no list of class names; expected CIFAR's own file")
    return tuple(names)


def _read_pickle(file: Path, form: _Form) -> tuple[Bytes, Labels]:
    content = load_arrays(file)
    content = content if isinstance(content, dict) else {}
    images, labels = content.get("data"), content.get(form.key[0])
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (PIXELS,):
        raise UserError(f"{file}: holds no 'data' of (N, {PIXELS}) bytes; expected a batch of CIFAR")
    if not isinstance(labels, list) or len(labels) != len(images) or not all(type(raw) is int for raw in labels):
        raise UserError(f"{file}: holds no {form.key[0]!r} of one number for each of {len(images)} images")
    return images, np.array(labels, np.int64)


def _read_bytes(file: Path, form: _Form) -> tuple[Bytes, Labels]:
    content, row = np.fromfile(file, np.uint8), form.label_bytes + PIXELS
    if len(content) % row or not len(content):
        raise UserError(f"{file}: {len(content)} bytes; expected rows of {row}: copy the file again")
    rows = content.reshape(-1, row)
    return rows[:, form.label_bytes :], rows[:, form.label_bytes - 1].astype(np.int64)
