"""A table of images: a line for each, and columns for labels, masks, splits, groups and weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.files.image_folder import ImageFolder
from tasks.data.files.mask_files import MaskFiles
from tasks.data.formats.class_list import column_names, named_classes
from tasks.data.formats.frames import expand_frames
from tasks.data.formats.image_labels import class_labels
from tasks.data.formats.mask_classes import mask_classes
from tasks.data.formats.readers import Reader, register_reader
from tasks.data.formats.table_file import SUFFIXES, Row, read_header, read_table, table_files
from tasks.data.names import Names
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.data.split_names import is_split_name
from tasks.data.wanted import LabelKind
from tasks.label_map import LabelMap

Part = Literal["image", "labels", "mask", "split", "group", "weight"]
COLUMNS: dict[Part, tuple[str, ...]] = {
    "image": ("path", "image", "file", "filename", "file_name"),
    "labels": ("label", "class", "target", "labels"),
    "mask": ("mask", "mask_path", "label_path", "segmentation"),
    "split": ("split", "set", "subset"),
    "group": ("group", "patient", "patient_id"),
    "weight": ("weight",),
}


@register_reader("csv")
class CsvTable(Reader):
    """A .csv or .tsv file; or a folder with one for each split (`train.csv`, `val.csv`), with `labels.csv`, or with a
    single one of any name.

    Columns are those that `data.columns` names, else those that are called as `ColumnsConfig` says. When masks are
    asked for, the mask column is read, else the labels. An empty label is an unknown one; images whose labels of
    multi-label data are not all known are dropped. Where one cell holds several classes, "|" alone stands for none.
    """

    def __init__(self, root: Path, options: DataConfig | None = None, labels: LabelKind = "single") -> None:
        super().__init__(root, options, labels)
        self.folder = root.parent if root.is_file() else root
        self._table: list[Row] | None = None
        self._by_split: dict[str, list[Row]] = {}

    @classmethod
    def recognises(cls, root: Path) -> bool:
        if root.is_file():
            return root.suffix.lower() in SUFFIXES
        try:
            headers = [read_header(file) for file in table_files(root)]
        except UserError:
            return False
        return bool(headers) and all(_known_column(header, "image") for header in headers)

    def splits(self) -> list[str]:
        self._rows()
        return sorted(self._by_split)

    def read(self, split: str, masks: bool = False) -> Annotations:
        image = self._require_column("image")
        report = ReadReport(str(self.root))
        rows = self._distinct(self._by_split[split], image, report)
        if masks:
            # Classes are those of all splits.
            mask = self._require_column("mask")
            every = sorted({row.cells[mask] for row in self._rows()} - {""})
            ImageFolder(self.folder).require(every, asked_by=self.root)
            label_map = mask_classes(self.folder, every, self.options, report)
            known, missing = [bool(row.cells[mask]) for row in rows], "images without a mask"
        else:
            label_map, values, known = self._labels(rows)
            missing = "images whose labels are not known"
            if self.labels != "multi":
                known = [True] * len(rows)
            values = values[torch.tensor(known, dtype=torch.bool)]
        for row, keep in zip(rows, known, strict=True):
            if not keep:
                report.drop(missing, row.cells[image])
        rows = [row for row, keep in zip(rows, known, strict=True) if keep]
        names = [row.cells[image] for row in rows]
        ImageFolder(self.folder).require(names, asked_by=self.root)
        files, frames = expand_frames(self.folder, names, self.options.slice_axis)
        by_image = [rows[file] for file in files]
        ignored = self.options.ignored_value
        return pack_images(
            split=split,
            root=self.folder,
            label_map=label_map,
            report=report,
            names=[names[file] for file in files],
            image_labels=None if masks else values[torch.from_numpy(files)],
            mask_files=MaskFiles(Names.pack(row.cells[mask] for row in by_image), 1, ignored) if masks else None,
            frames=frames,
            slice_axis=self.options.slice_axis,
            groups=self._groups(by_image, image),
            weights=self._weights(by_image),
        )

    def _rows(self) -> list[Row]:
        """All lines of all tables."""
        if self._table is None:
            files = table_files(self.root)
            self._table = [row for file in files for row in read_table(file)]
            if not self._table:
                raise UserError(f"{self.root}: no line below the names of the columns; expected one for each image")
            header = list(self._table[0].cells)
            for row in self._table:
                if set(row.cells) != set(header):
                    raise UserError(
                        f"{row.place}: the columns are {', '.join(row.cells)}, in the first table "
                        f"{', '.join(header)}; expected the same in all"
                    )
            column = self._column("split") if len(files) == 1 else None
            for row in self._table:
                split = row.file if is_split_name(row.file) else "all"
                self._by_split.setdefault(split if column is None else row.cells[column], []).append(row)
            for column_of_files in filter(None, (self._column("image"), self._column("mask"))):
                for row in self._table:  # tables from Windows
                    row.cells[column_of_files] = row.cells[column_of_files].replace("\\", "/")
            for row in self._by_split.get("", []):
                raise UserError(f"{row.place}: the column {column!r} is empty; expected the name of a split")
        return self._table

    def _column(self, part: Part) -> str | None:
        """The column of the config, or one of a known name."""
        header = list(self._rows()[0].cells)
        asked: str | None = getattr(self.options.columns, part)
        if asked is not None and asked not in header:
            raise UserError(
                f"{self.root}: no column {asked!r}, which data.columns.{part} names; expected one of "
                f"{', '.join(header)}"
            )
        return asked or _known_column(header, part)

    def _require_column(self, part: Part) -> str:
        found = self._column(part)
        if found is None:
            raise UserError(
                f"{self.root}: no column called {', '.join(COLUMNS[part])} among "
                f"{', '.join(self._rows()[0].cells)}; expected the one of the {part}: name it with data.columns.{part}"
            )
        return found

    def _distinct(self, rows: list[Row], image: str, report: ReadReport) -> list[Row]:
        """Rows of distinct images; a repeated line is dropped."""
        kept: dict[str, Row] = {}
        for row in rows:
            name = row.cells[image]
            if not name:
                raise UserError(f"{row.place}: the column {image!r} is empty; expected the file of an image")
            first = kept.setdefault(name, row)
            if first is row:
                continue
            if first.cells != row.cells:
                raise UserError(
                    f"{row.place}: {name} is also in {first.place.rpartition(', ')[2]} with other cells; expected one "
                    "line for each image: several classes stand in one cell, separated by |, or in columns of 0 and 1"
                )
            report.drop("repeated lines", row.place.rpartition(", ")[2])
        return list(kept.values())

    def _label_columns(self) -> tuple[str, ...]:
        asked, header = self.options.columns.labels, list(self._rows()[0].cells)
        for name in asked:
            if name not in header:
                raise UserError(
                    f"{self.root}: no column {name!r}, which data.columns.labels names; expected some of "
                    f"{', '.join(header)}"
                )
        found = _known_column(header, "labels")
        if not asked and found is None:
            raise UserError(
                f"{self.root}: no column called {', '.join(COLUMNS['labels'])} among {', '.join(header)}; expected "
                "the one of the label: name it, or several, with data.columns.labels"
            )
        columns = asked or (str(found),)
        if len(columns) > 1 and self.labels in ("single", "ordinal"):
            raise UserError(
                f"{self.root}: data.columns.labels names {len(columns)} columns, the head's target is "
                f"{self.labels!r}; expected one column, or the target multi or regression"
            )
        return columns

    def _labels(self, rows: Sequence[Row]) -> tuple[LabelMap, Tensor, list[bool]]:
        """Classes, those of all splits; `Annotations.image_labels` of `rows`, and which of these are known."""
        columns, names = self._label_columns(), self.options.class_names
        if self.labels == "regression" or len(columns) > 1:
            numbers = np.array([[_number(row, name) for name in columns] for row in rows], np.float32)
            numbers = numbers.reshape(len(rows), len(columns))
            known = [not np.isnan(row).any() for row in numbers]
            if self.labels == "multi":
                wrong = ~np.isnan(numbers) & (numbers != 0) & (numbers != 1)
                for line, column in np.argwhere(wrong)[:1].tolist():
                    raise UserError(
                        f"{rows[line].place}: {columns[column]} is {rows[line].cells[columns[column]]}; expected 0 or "
                        "1, as the head's target is multi; set it to regression for numbers"
                    )
                numbers = np.nan_to_num(numbers).astype(np.uint8)
            return column_names(self.root, columns, names), torch.from_numpy(numbers), known
        cells = [row.cells[columns[0]] for row in rows]
        everywhere = [row.cells[columns[0]] for row in self._rows()]
        known = [bool(cell) for cell in cells]
        if self.labels == "multi":
            every = (name for cell in everywhere for name in _several(cell))
            label_map, index = named_classes(self.root, every, names, self.labels)
            values = torch.zeros(len(rows), len(label_map), dtype=torch.uint8)
            for line, cell in enumerate(cells):
                values[line, [index[name] for name in _several(cell)]] = 1
            return label_map, values, known
        label_map, index = named_classes(self.root, filter(None, everywhere), names, self.labels)
        classes = np.array([index.get(cell, -1) for cell in cells], np.int64)
        return label_map, class_labels(self.root, classes, label_map, self.labels), known

    def _groups(self, rows: Sequence[Row], image: str) -> Names | None:
        column = self._column("group")
        # An image of no group is one of its own.
        return None if column is None else Names.pack(row.cells[column] or row.cells[image] for row in rows)

    def _weights(self, rows: Sequence[Row]) -> Tensor | None:
        column = self._column("weight")
        if column is None:
            return None
        weights = [_number(row, column) for row in rows]
        for row, weight in zip(rows, weights, strict=True):
            if not weight >= 0:
                raise UserError(
                    f"{row.place}: {column} is {row.cells[column]!r}; expected how often to draw the image in "
                    "comparison, a number from 0"
                )
        if rows and not any(weights):
            raise UserError(f"{self.root}: the column {column!r} is 0 in every line; expected a weight above it")
        return torch.tensor(weights, dtype=torch.float32)


def _known_column(header: Sequence[str], part: Part) -> str | None:
    by_name = {name.lower(): name for name in reversed(header)}
    return next((by_name[name] for name in COLUMNS[part] if name in by_name), None)


def _number(row: Row, column: str) -> float:
    cell = row.cells[column]
    try:
        value = float(cell) if cell else float("nan")
    except ValueError:
        value = float("inf")
    if np.isinf(value):
        raise UserError(f"{row.place}: {column} is {cell!r}; expected a number, or nothing if it is not known")
    return value


def _several(cell: str) -> list[str]:
    """Classes in one cell."""
    return [name for part in cell.replace(";", "|").split("|") if (name := part.strip())]
