"""What a check came to, as a table and as plain data."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.checking.finding import GRADES, Finding, Grade
from tasks.checking.subject import Subject
from tasks.output import write_whole
from tasks.progress import Reporter

STYLES: dict[Grade, str] = {"error": "bold red", "warning": "yellow", "note": "dim"}


@dataclass(frozen=True, slots=True)
class Found:
    """A finding and what it is about.

    Attributes:
        finding: what was found.
        subject: where; None if it could not be opened.
    """

    finding: Finding
    subject: Subject | None

    @property
    def seen(self) -> str:
        """What was seen, and in which data set, if there are several."""
        source = "" if self.subject is None else self.subject.source
        return f"{source}: {self.finding.seen}" if source else self.finding.seen


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check came to.

    Attributes:
        found: errors first.
        subjects: what was looked at; none if they could not be opened.
        seconds: that it took.
    """

    found: list[Found]
    subjects: list[Subject]
    seconds: float

    @property
    def codes(self) -> list[str]:
        """Codes of the findings."""
        return [each.finding.kind.code for each in self.found]

    def count(self, grade: Grade) -> int:
        """Findings of a grade."""
        return sum(each.finding.kind.grade == grade for each in self.found)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {grade}{'s' * (count != 1)}" for grade in GRADES if (count := self.count(grade)))
        looked = "; ".join(subject.looks.describe() for subject in self.subjects)
        looked = f"; {looked} looked at" if looked else ""
        return f"{counts or 'nothing found'} in {self.seconds:.0f} s{looked}; docs/checking.md explains each finding"


def show(outcome: Outcome, reporter: Reporter) -> None:
    """A table of the findings, and a line of how many there are."""
    from rich.table import Column, Table
    from rich.text import Text

    if outcome.found:
        table = Table("finding", Column("what", overflow="fold"), show_lines=True)
        for each in outcome.found:
            kind = each.finding.kind
            lines = {"seen": each.seen, "expected": each.finding.expected, "fix": each.finding.fix}
            told = [Text.assemble((f"{key}: ", "bold"), value) for key, value in lines.items()]
            table.add_row(Text(f"{kind.grade}\n{kind.code}", STYLES[kind.grade]), Text("\n").join(told))
        reporter.console.print(table)
    reporter.say(str(outcome))


def write_json(outcome: Outcome, file: Path) -> None:
    """Write the findings for programs.

    Raises:
        UserError: the file cannot be written.
    """
    content = {
        "seconds": round(outcome.seconds, 2),
        "counts": {grade: outcome.count(grade) for grade in GRADES},
        "findings": [_plain(each) for each in outcome.found],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_whole(file, lambda beside: beside.write_text(text, encoding="utf-8"))


def _plain(each: Found) -> dict[str, Any]:
    finding = each.finding
    return {
        "code": finding.kind.code,
        "grade": finding.kind.grade,
        "source": "" if each.subject is None else each.subject.source,
        "seen": finding.seen,
        "expected": finding.expected,
        "fix": finding.fix,
        "means": finding.kind.means,
        "places": list(_places(each)),
    }


def _places(each: Found) -> Iterator[dict[str, Any]]:
    if each.subject is None:
        return
    for place in each.finding.places:
        split = each.subject.splits[place.side]
        yield {
            "split": split.split,
            "image_id": split.image_id(place.index),
            "file": each.subject.name(place),
            "about": place.about,
            "boxes": [list(box) for box in place.boxes],
        }
