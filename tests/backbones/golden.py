"""The table of all registered backbones: python -m tests.backbones.golden

writes `golden.csv`, which the tests compare every backbone with, and the table in `docs/backbones.md`. Run it after a
backbone has been added, and look at what it changes.
"""

import csv
from pathlib import Path

from backbones import backbones
from tasks.inventory import BackboneSize, measure_backbone

FILE = Path(__file__).with_name("golden.csv")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "backbones.md"
BEGIN, END = "<!-- made by python -m tests.backbones.golden -->\n", "<!-- end -->\n"
COLUMNS = ("name", "parameters", "multiply_adds", "side", "levels")


def row_of(size: BackboneSize) -> dict[str, str]:
    """A line of the table."""
    return {column: str(getattr(size, column)) for column in COLUMNS}


def read() -> dict[str, dict[str, str]]:
    """The lines of `golden.csv`, by name."""
    with FILE.open(newline="", encoding="utf-8") as lines:
        return {row["name"]: row for row in csv.DictReader(lines)}


def table(rows: dict[str, dict[str, str]]) -> str:
    """The lines as a table in Markdown."""
    lines = ["| name | parameters | multiply-adds | levels: channels/stride |", "|---|---|---|---|"]
    for row in rows.values():
        adds = f"{int(row['multiply_adds']) / 1e9:.2f} G" + (" at 32 px" if row["side"] == "32" else "")
        lines.append(f"| {row['name']} | {int(row['parameters']) / 1e6:.2f} M | {adds} | {row['levels']} |")
    return "\n".join(lines) + "\n"


def write() -> None:
    """Measure all registered backbones anew."""
    rows = {name: row_of(measure_backbone(name)) for name in backbones.names()}
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + BEGIN + table(rows) + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    write()
