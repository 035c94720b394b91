"""CSV and TSV files as rows of named cells."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import UserError
from tasks.data.files.limits import require_text
from tasks.data.split_names import is_split_name

SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class Row:
    """One line.

    Attributes:
        place: file and line, for messages.
        file: stem of the file.
        cells: by column; "" where a cell is empty.
    """

    place: str
    file: str
    cells: dict[str, str]


def table_files(root: Path) -> list[Path]:
    """The tables of a data set: `root` itself, or in that folder train.csv, val.csv, ..., else labels.csv, else the
    one there is; none.

    Raises:
        UserError: there are several to choose from.
    """
    if root.is_file():
        return [root]
    files = sorted(file for file in root.glob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    splits = [file for file in files if is_split_name(file.stem)]
    if splits:
        return splits
    chosen = [file for file in files if file.stem == "labels"] or files
    if len(chosen) > 1:
        raise UserError(
            f"{root}: holds {len(files)} tables ({', '.join(file.name for file in files[:4])}); expected labels.csv, "
            "one of any name, or train.csv and val.csv: set data.root to the file"
        )
    return chosen


def read_header(file: Path) -> list[str]:
    """Names of the columns.

    Raises:
        UserError: see `read_table`.
    """
    return _parse(file, header_only=True)[0]


def read_table(file: Path) -> list[Row]:
    """All lines that are not empty, below the one with the names of the columns.

    Cells are separated by tabs in a .tsv, else by what is most frequent in the first line: commas, semicolons or tabs.

    Raises:
        UserError: the file cannot be read, or is no table.
    """
    header, lines = _parse(file)
    rows = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise UserError(
                f"{file}, line {number}: {len(cells)} cells; expected {len(header)} as in the first line, "
                f"{', '.join(header)}: put cells that hold a separator into quotes"
            )
        named = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        rows.append(Row(f"{file}, line {number}", file.stem, named))
    return rows


def _parse(file: Path, header_only: bool = False) -> tuple[list[str], Sequence[tuple[int, list[str]]]]:
    """Names of the columns, and the cells of each line that is not empty, with its number."""
    try:
        require_text(file)
        with file.open(encoding="utf-8-sig", newline="") as text:
            first = text.readline()
            text.seek(0)
            separator = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
            reader = csv.reader(text, delimiter=separator, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            lines = [] if header_only else [(reader.line_num, cells) for cells in reader if any(cells)]
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); expected a table of images") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: not a table that can be read ({error}); expected CSV in UTF-8") from None
    twice = [name for name in header if header.count(name) > 1]
    if not any(header) or twice:
        found = f"the column {twice[0]!r} appears twice" if any(header) else "the first line is empty"
        raise UserError(f"{file}: {found}; expected a name for each column in the first line")
    return header, lines
