"""Images, labels and masks as arrays in one .npz file, as MedMNIST keeps them."""

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.files.limits import require_array
from tasks.data.files.mask_files import MaskFiles
from tasks.data.formats.class_list import column_names, named_classes, numbered_classes
from tasks.data.formats.image_labels import class_labels
from tasks.data.formats.mask_classes import found_classes
from tasks.data.formats.readers import Reader, register_reader
from tasks.data.names import Names
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.data.wanted import LabelKind
from tasks.label_map import LabelMap

PIXELS = ("uint8", "uint16", "float32")
MAX_CHANNELS = 64  # more in the last axis are columns of a picture stored channels first
Array = npt.NDArray[Any]


@register_reader("npz")
class NpzArrays(Reader):
    """An .npz file, or a folder with one: `train_images`, `train_labels`, `val_images`, ...; or `images`, `labels`.

    Images are (N, H, W) or (N, H, W, C), of 8 or 16 bits without sign, or floats. Labels are (N,) or (N, 1) numbers or
    names of a class, below 0 if unknown; (N, K) of 0 and 1 of multi-label data; numbers of a regression, NaN if
    unknown. `SPLIT_masks` (N, H, W) are read when masks are asked for. `class_names` names the classes.
    """

    def __init__(self, root: Path, options: DataConfig | None = None, labels: LabelKind = "single") -> None:
        super().__init__(root, options, labels)
        self._arrays: dict[str, Array] = {}

    @classmethod
    def recognises(cls, root: Path) -> bool:
        return root.suffix == ".npz" if root.is_file() else bool(list(root.glob("*.npz")))

    def splits(self) -> list[str]:
        keys = self._keys()
        found = sorted(match.group(1) for key in keys if (match := re.fullmatch(r"(.+)_images", key)))
        if not found and "images" not in keys:
            raise UserError(
                f"{self.file}: holds {', '.join(keys) or 'nothing'}; expected images and labels, or train_images, "
                "train_labels, val_images, ..."
            )
        return found or ["all"]

    def read(self, split: str, masks: bool = False) -> Annotations:
        images = self._part(split, "images")
        assert images is not None
        report = ReadReport(f"{self.file} [{split}]")
        own: dict[str, Any] = {}
        if masks:
            label_map, own["mask_files"] = self._masks(split, images, report)
        else:
            label_map, own["image_labels"] = self._labels(split, len(images))
        return pack_images(
            split=split,
            root=self.file.parent,
            label_map=label_map,
            report=report,
            names=[self.file.name] * len(images),
            pixels=self._pixels(split, images),
            **own,
        )

    @property
    def file(self) -> Path:
        """The .npz file."""
        if self.root.is_file():
            return self.root
        files = sorted(self.root.glob("*.npz"))
        if len(files) != 1:
            found = ", ".join(file.name for file in files[:4]) or "none"
            raise UserError(f"{self.root}: holds {len(files)} .npz files ({found}); expected one: set data.root to it")
        return files[0]

    def _keys(self) -> list[str]:
        try:
            with self.file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                return list(content.files) if isinstance(content, np.lib.npyio.NpzFile) else []
        except (
            OSError,
            ValueError,
            TypeError,
            EOFError,
            RuntimeError,
            zipfile.BadZipFile,
        ) as error:  # TypeError: a lone array
            raise UserError(f"{self.file}: not an .npz file that can be read ({error}); copy it again") from None

    def _part(self, split: str, kind: str) -> Array | None:
        """The array of a split: "images", "labels" or "masks"; None if there is none."""
        return self._array(kind if split == "all" and "images" in self._keys() else f"{split}_{kind}")

    def _array(self, key: str) -> Array | None:
        if key not in self._keys():
            return None
        if key not in self._arrays:
            try:
                with self.file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                    packed = content.zip.getinfo(f"{key}.npy")
                    require_array(self.file, packed.file_size, f"the array {key!r}")
                    array: Array = content[key]
                if not isinstance(array, np.ndarray):
                    raise ValueError("it does not begin as an array does")
                array = array.astype(array.dtype.newbyteorder("="), copy=False)  # torch knows its own order only
            except (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
                reason = "Python objects" if "allow_pickle" in str(error) else str(error)
                raise UserError(
                    f"{self.file}: the array {key!r} cannot be read ({reason}); expected numbers or texts, in a whole "
                    "file"
                ) from None
            if key.endswith("images"):  # large, and read once
                return array
            self._arrays[key] = array
        return self._arrays[key]

    def _pixels(self, split: str, images: Array) -> Tensor:
        if images.dtype.kind == "f":
            images = images.astype(np.float32)
        shape = " x ".join(map(str, images.shape))
        if images.ndim not in (3, 4) or images.dtype.name not in PIXELS:
            raise UserError(
                f"{self.file}: the images of {split!r} are {shape}, {images.dtype}; expected (N, H, W) or "
                f"(N, H, W, C) of {', '.join(PIXELS)}"
            )
        if images.ndim == 4 and images.shape[3] > MAX_CHANNELS:
            raise UserError(
                f"{self.file}: the images of {split!r} are {shape}, so {images.shape[3]} channels; expected "
                "(N, H, W, C): move the axis of the channels to the end"
            )
        return torch.from_numpy(np.ascontiguousarray(images if images.ndim == 4 else images[:, :, :, None]))

    def _require_rows(self, split: str, kind: str, array: Array | None, count: int) -> Array:
        if array is None:
            raise UserError(
                f"{self.file}: no {kind} of the split {split!r} among {', '.join(self._keys())}; expected "
                f"{kind if split == 'all' else f'{split}_{kind}'}"
            )
        if array.ndim == 0 or len(array) != count:
            raise UserError(
                f"{self.file}: the {kind} of {split!r} are {array.shape}, for {count} images; expected a row for each"
            )
        return array

    def _class_names(self) -> tuple[str, ...] | None:
        stored = self._array("class_names")
        if self.options.class_names is not None or stored is None:
            return self.options.class_names
        return tuple(map(str, stored.reshape(-1).tolist()))

    def _labels(self, split: str, count: int) -> tuple[LabelMap, Tensor]:
        labels = self._require_rows(split, "labels", self._part(split, "labels"), count)
        labels = labels.reshape(count, -1) if labels.ndim > 1 else labels[:, None]
        columns, names = labels.shape[1], self._class_names()
        kind = labels.dtype.kind
        if self.labels in ("multi", "regression"):
            needed = "0 or 1" if self.labels == "multi" else "numbers"
            if kind not in "biuf" or (self.labels == "multi" and not np.isin(labels, (0, 1)).all()):
                raise UserError(
                    f"{self.file}: the labels of {split!r} are not all {needed}, which the head's target "
                    f"{self.labels!r} needs; expected other labels or another target"
                )
            numbers = np.array(labels, np.uint8 if self.labels == "multi" else np.float32)
            shown = ["value"] if columns == 1 else [str(column) for column in range(columns)]
            return column_names(self.file, shown, names), torch.from_numpy(numbers)
        if columns != 1:
            raise UserError(
                f"{self.file}: the labels of {split!r} have {columns} columns, the head's target is {self.labels!r}; "
                "expected one column, or the target multi or regression"
            )
        everywhere = [
            array.reshape(-1) for other in self.splits() if (array := self._part(other, "labels")) is not None
        ]
        if kind in "US":
            every = [self._text(value) for array in everywhere for value in np.unique(array).tolist()]
            label_map, index = named_classes(self.file, filter(None, every), names, self.labels)
            values, inverse = np.unique(labels[:, 0], return_inverse=True)
            classes = np.array([index.get(self._text(value), -1) for value in values.tolist()], np.int64)[inverse]
        elif kind in "biu" or (kind == "f" and (labels == np.floor(labels)).all()):
            if any(array.dtype.kind in "US" for array in everywhere):
                raise UserError(
                    f"{self.file}: the labels of {split!r} are numbers, those of another split texts; expected one kind"
                )
            raw = np.concatenate(everywhere).astype(np.int64)
            label_map = numbered_classes(self.file, np.unique(raw[raw >= 0]).tolist(), names, self.labels)
            place = {value: index for index, value in enumerate(label_map.ids)}
            classes = np.array([place.get(int(value), -1) for value in labels[:, 0].tolist()], np.int64)
        else:
            raise UserError(
                f"{self.file}: the labels of {split!r} are {labels.dtype}; expected whole numbers or names of classes"
            )
        return label_map, class_labels(self.file, classes, label_map, self.labels)

    @staticmethod
    def _text(value: Any) -> str:
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def _masks(self, split: str, images: Array, report: ReadReport) -> tuple[LabelMap, MaskFiles]:
        masks = self._require_rows(split, "masks", self._part(split, "masks"), len(images))
        masks = masks[..., 0] if masks.ndim == 4 and masks.shape[3] == 1 else masks
        if masks.shape != images.shape[:3] or masks.dtype.kind not in "biu":
            raise UserError(
                f"{self.file}: the masks of {split!r} are {masks.shape} {masks.dtype}, their images {images.shape}; "
                "expected (N, H, W) of whole numbers"
            )
        found: set[int] = set()
        for other in self.splits():
            array = self._part(other, "masks")
            found |= set() if array is None else set(np.unique(array).tolist())
        names = self.options.class_names or self._class_names()
        options = self.options.model_copy(update={"class_names": names})
        label_map = found_classes(self.file, found, False, options, report)
        values = torch.from_numpy(masks.astype(np.uint8 if masks.dtype == bool else masks.dtype))
        files = MaskFiles(Names.pack([self.file.name] * len(images)), 1, self.options.ignored_value, values)
        return label_map, files
