"""What was measured, as rows of text for people and as figures for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.progress import Reporter


@dataclass(frozen=True, slots=True)
class Table:
    """Figures with a title.

    Attributes:
        title: what was measured, and how.
        columns: their heads; that of the first may be empty.
        rows: of the cells' text.
        figures: the rows for json, nothing rounded.
        notes: what has to be known to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    figures: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = field(default_factory=list)

    def show(self, reporter: Reporter) -> None:
        """Print it."""
        reporter.table(self.title, self.columns, self.rows)
        for note in self.notes:
            reporter.say(note)

    def markdown(self) -> str:
        """The title in bold, the table, and the notes below it."""
        rule = ("---", *("---:" for _ in self.columns[1:]))
        lines = ["| " + " | ".join(_escaped(cells)) + " |" for cells in (self.columns, rule, *self.rows)]
        return "\n\n".join([f"**{self.title}**", "\n".join(lines), *self.notes]) + "\n"


def as_markdown(tables: Sequence[Table], machine: Mapping[str, str], command: str) -> str:
    """All tables, the command that measured them and the machine it ran on: a section of a page."""
    described = ", ".join(f"{key} {value}" for key, value in machine.items())
    return (
        "\n".join([f"```bash\n{command}\n```\n", *(table.markdown() for table in tables), f"Measured on: {described}."])
        + "\n"
    )


def _escaped(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|") or " " for cell in cells]
