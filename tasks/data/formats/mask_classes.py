"""Which classes masks hold: told by a file beside them, or found by looking into all of them."""

import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.files.limits import read_bounded
from tasks.data.files.mask_values import distinct_values
from tasks.data.report import ReadReport
from tasks.label_map import LabelMap

MAX_CLASSES = 254  # a mask in memory is uint8: 0 is background, 255 ignored
FILES = ("classes.txt", "classes.csv", "classes.json")
LINE = re.compile(r"\s*(\d+)(?:[\s,;]+(\d+)[\s,;]+(\d+))?[\s,;:=]+(\S.*?)\s*")
NAMES, IDS, COLOURS = ("name", "class", "label"), ("id", "value", "index"), (("r", "g", "b"), ("red", "green", "blue"))
BACKGROUND = "background"  # or _background_, as labelme writes it

Classes = list[tuple[int, str]]


def mask_classes(root: Path, names: Sequence[str], options: DataConfig, report: ReadReport) -> LabelMap:
    """The classes of masks that hold raw ids: those of `classes.txt`, `.csv` or `.json` in the root, else every value
    found in a mask but 0. `data.class_names` names or orders them.

    Args:
        root: folder of the data.
        names: of all masks, relative to it.
        options: class names and the ignored value.
        report: takes what a person should know.

    Raises:
        UserError: the list or a mask cannot be read, there are no classes, or more than 254, or no mask holds a value
            that is listed.
    """
    file = next((root / name for name in FILES if (root / name).is_file()), None)
    if file is not None:
        classes = [(raw, name) for raw, name in _read(file) if raw not in (0, options.ignored_value)]
        label_map = label_map_of(file, [c for c in classes if c[1].strip("_").lower() != BACKGROUND], options)
        _require_some(file, root, names, label_map, options)
        return label_map
    found, colour = distinct_values(root, names, options.slice_axis, MAX_CLASSES + 2)
    return found_classes(root, found, colour, options, report)


def found_classes(
    source: Path, found: Iterable[int], colour: bool, options: DataConfig, report: ReadReport
) -> LabelMap:
    """The classes of masks that hold these raw values, and nobody has named them.

    Raises:
        UserError: there are none, more than 254, or negative ones.
    """
    values = sorted(set(found) - {0, options.ignored_value})
    if not values:
        raise UserError(f"{source}: all masks are empty; expected a value other than 0 where there is something")
    if values[0] < 0:
        raise UserError(f"{source}: the masks hold {values[0]}; expected values from 0, which is background")
    if len(values) > MAX_CLASSES:
        raise UserError(
            f"{source}: the masks hold more than {MAX_CLASSES} values; expected one for each class: these look like "
            "photographs, probabilities, or a number for each object"
        )
    if not colour and 255 in values and len(values) > 1 and options.ignored_value is None:
        report.notes.append(
            "the value 255 in masks counts as a class; set data.ignored_value to 255 if it means pixels to ignore"
        )
    shown = [f"#{value:06x}" if colour else str(value) for value in values]
    return label_map_of(source, list(zip(values, ["foreground"] if len(values) == 1 else shown, strict=True)), options)


def label_map_of(source: Path, classes: Classes, options: DataConfig) -> LabelMap:
    """A label map of raw ids and names, renamed or put into the order of `data.class_names`.

    Raises:
        UserError: a name or id appears twice, or `data.class_names` does not fit.
    """
    names = options.class_names
    if names is not None and {name for _, name in classes} == set(names):
        classes = sorted(classes, key=lambda entry: names.index(entry[1]))
    elif names is not None:
        if len(names) != len(classes):
            shown = ", ".join(f"{raw}={name}" for raw, name in classes[:10])
            raise UserError(
                f"{source}: data.class_names gives {len(names)} names for {len(classes)} classes ({shown}); expected "
                "one for each, in this order and without the background"
            )
        classes = [(raw, name) for (raw, _), name in zip(sorted(classes), names, strict=True)]
    if not 0 < len(classes) <= MAX_CLASSES:
        raise UserError(f"{source}: {len(classes)} classes; expected 1 to {MAX_CLASSES} besides the background")
    try:
        return LabelMap(ids=tuple(raw for raw, _ in classes), names=tuple(name for _, name in classes))
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{source}: {reason}; expected each class once") from None


def _require_some(file: Path, root: Path, names: Sequence[str], label_map: LabelMap, options: DataConfig) -> None:
    """Refuse a list of other values than all masks hold: every pixel would be background. Ends at the first match."""
    other, colour = set[int](), False
    for name in names:
        found, coloured = distinct_values(root, [name], options.slice_axis, MAX_CLASSES + 2)
        if found & set(label_map.ids):
            return
        other, colour = other | found, colour or coloured
    values = sorted(other - {0, options.ignored_value})
    if values:
        shown = [f"#{value:06x}" if colour else str(value) for value in values[:8]]
        raise UserError(
            f"{file}: lists {label_map}, but the masks hold {', '.join(shown)}{', ...' * (len(values) > 8)} and none "
            "of these; expected the values of the masks: '255 nucleus', or '255,0,0,tumour' for colours"
        )


def _read(file: Path) -> Classes:
    try:
        text = read_bounded(file).decode("utf-8-sig")
        match file.suffix:
            case ".json":
                return [_entry(file, *pair) for pair in _pairs(file, json.loads(text))]
            case ".csv":
                return _table(file, text)
            case _:
                return _lines(file, text.splitlines())
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); expected a list of classes") from None
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read ({error}); expected a list of classes in UTF-8") from None


def _lines(file: Path, lines: Sequence[str]) -> Classes:
    """`1 name`, `255,0,0,name`; or names alone, counted from 1, or from 0 where the first is the background."""
    lines = [line.strip() for line in lines if line.strip()]
    parts = [LINE.fullmatch(line) for line in lines]
    if not any(parts):
        first = 0 if lines and lines[0].strip("_").lower() == BACKGROUND else 1
        return list(enumerate(lines, first))
    classes = []
    for line, match in zip(lines, parts, strict=True):
        if match is None:
            raise UserError(
                f"{file}: the line {line!r}; expected the value and the name: '1 nucleus', '255,0,0,tumour'"
            )
        red, green, blue, name = match.groups()
        classes.append(_entry(file, red if green is None else (red, green, blue), name))
    return classes


def _table(file: Path, text: str) -> Classes:
    """Columns name and id, or name, r, g and b; without a line for their names, as in a text file."""
    rows = list(csv.reader(text.splitlines(), strict=True))
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    name = next((header.index(word) for word in NAMES if word in header), None)
    if name is None:
        return _lines(file, [",".join(row) for row in rows])
    colour = next((words for words in COLOURS if set(words) <= set(header)), None)
    raw = next((header.index(word) for word in IDS if word in header), None)
    if colour is None and raw is None:
        raise UserError(f"{file}: the columns are {', '.join(header)}; expected name and id, or name, r, g and b")
    classes = []
    for row in rows[1:]:
        cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
        value: Any = cells.get(header[raw]) if raw is not None else [cells.get(word) for word in colour or ()]
        if any(row):
            classes.append(_entry(file, value, cells.get(header[name])))
    return classes


def _pairs(file: Path, content: Any) -> Iterable[tuple[Any, Any]]:
    """Raw id or colour, and name, of `{"1": "a"}`, `{"a": 1}`, `[{"id": 1, "name": "a"}]` or `["a", "b"]`."""
    if isinstance(content, dict):
        numbered = all(key.isdecimal() for key in content)
        return [(key, value) if numbered else (value, key) for key, value in content.items()]
    if isinstance(content, list) and all(isinstance(entry, str) for entry in content):
        return [(raw, name) for raw, name in _lines(file, content)]
    if isinstance(content, list) and all(isinstance(entry, dict) for entry in content):
        return [(entry.get("id", entry.get("color", entry.get("colour"))), entry.get("name")) for entry in content]
    raise UserError(f'{file}: expected an object such as {{"1": "nucleus"}} or a list of objects with id and name')


def _entry(file: Path, value: Any, name: Any) -> tuple[int, str]:
    """Raw id and name of a class given by a number or a colour."""
    try:
        parts = [int(part) for part in (value if isinstance(value, list | tuple) else [value])]
        if not isinstance(name, str) or not name or min(parts) < 0 or len(parts) not in (1, 3):
            raise ValueError
        if len(parts) == 3 and max(parts) > 255:
            raise ValueError
    except (TypeError, ValueError):
        raise UserError(
            f"{file}: the class {name!r} has the value {value!r}; expected a name, and a number or red, green and blue "
            "from 0 to 255"
        ) from None
    return (parts[0] if len(parts) == 1 else (parts[0] << 16) + (parts[1] << 8) + parts[2]), name
