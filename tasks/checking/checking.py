"""Makes the checks and says what they found."""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import UserError
from tasks.checking.arguments import Part
from tasks.checking.catalogue import DATA, TRAINING
from tasks.checking.clock import Clock
from tasks.checking.finding import GRADES, Finding, Grade
from tasks.checking.network import NETWORK_UNUSABLE, Network
from tasks.checking.opening import not_checked, open_subject
from tasks.checking.subject import Subject
from tasks.config import Experiment
from tasks.output import write_whole
from tasks.progress import Reporter

STYLES: dict[Grade, str] = {"error": "bold red", "warning": "yellow", "note": "dim"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check came to.

    Attributes:
        findings: errors first.
        subject: what was looked at; None if it could not be opened.
        seconds: that it took.
    """

    findings: list[Finding]
    subject: Subject | None
    seconds: float

    def count(self, grade: Grade) -> int:
        """Findings of a grade."""
        return sum(finding.kind.grade == grade for finding in self.findings)


def check(
    config: Experiment,
    *,
    only: Sequence[Part] = ("data", "training"),
    seconds: float = 45.0,
    json_file: Path | None = None,
) -> Outcome:
    """Check an experiment and print a table of what was found.

    Args:
        config: the resolved experiment.
        only: which halves of the checks to make.
        seconds: about how long it may take.
        json_file: file to write the findings to as well.

    Raises:
        UserError: `seconds` is not above 0, or a file cannot be written.
    """
    if not seconds > 0:
        raise UserError(f"--seconds is {seconds:g}; expected a number above 0")
    outcome = find(config, only, seconds)
    show(outcome, Reporter())
    if json_file is not None:
        text = json.dumps(as_json(outcome), indent=1, ensure_ascii=False)
        write_whole(json_file, lambda file: file.write_text(text, encoding="utf-8"))
    return outcome


def check_before_training(config: Experiment) -> None:
    """Check an experiment, and end the process with exit code 1 if there is an error.

    Raises:
        UserError: this is one of several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--check is for runs of one process; check with tools/check.py, then train without it")
    outcome = check(config)
    if outcome.count("error"):
        Reporter().say("not trained: mend the errors above, or train without --check")
        raise SystemExit(1)


def find(config: Experiment, only: Sequence[Part], seconds: float) -> Outcome:
    """Make the checks without a word."""
    start, clock = time.monotonic(), Clock(seconds)
    subject = open_subject(config, clock)
    if isinstance(subject, Finding):
        return Outcome([subject], None, time.monotonic() - start)
    findings: list[Finding] = []
    late: list[str] = []
    if "data" in only:
        _make(DATA, subject, clock, findings, late)
    if "training" in only:
        try:
            network = Network(subject)
            assert network.model is not None  # which builds it
        except UserError as error:
            fix = "follow the advice in the message"
            findings.append(Finding(NETWORK_UNUSABLE, str(error), "a config that can be trained", fix))
        else:
            _make(TRAINING, network, clock, findings, late)
    if late:
        findings.append(not_checked(late, clock))
    findings.sort(key=lambda finding: GRADES.index(finding.kind.grade))
    return Outcome(findings, subject, time.monotonic() - start)


def _make(checks: Mapping[str, Any], about: Any, clock: Clock, findings: list[Finding], late: list[str]) -> None:
    for name, made in checks.items():
        if clock.left():
            findings += made(about)
        else:
            late.append(name)


def show(outcome: Outcome, reporter: Reporter) -> None:
    """A table of the findings, and a line of how many there are."""
    from rich.table import Column, Table
    from rich.text import Text

    if outcome.findings:
        table = Table("finding", Column("what", overflow="fold"), show_lines=True)
        for finding in outcome.findings:
            name = Text(f"{finding.kind.grade}\n{finding.kind.code}", STYLES[finding.kind.grade])
            lines = {"seen": finding.seen, "expected": finding.expected, "fix": finding.fix}
            table.add_row(
                name, Text("\n").join(Text.assemble((f"{key}: ", "bold"), value) for key, value in lines.items())
            )
        reporter.console.print(table)
    reporter.say(summary(outcome))


def summary(outcome: Outcome) -> str:
    """How much was found, in what."""
    counts = ", ".join(f"{count} {grade}{'s' * (count != 1)}" for grade in GRADES if (count := outcome.count(grade)))
    looked = "" if outcome.subject is None else f"; {outcome.subject.looks.describe()} looked at"
    return f"{counts or 'nothing found'} in {outcome.seconds:.0f} s{looked}; docs/checking.md explains each finding"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Findings as plain data."""
    return {
        "seconds": round(outcome.seconds, 2),
        "counts": {grade: outcome.count(grade) for grade in GRADES},
        "findings": [
            {
                "code": finding.kind.code,
                "grade": finding.kind.grade,
                "seen": finding.seen,
                "expected": finding.expected,
                "fix": finding.fix,
                "means": finding.kind.means,
                "places": list(_places(finding, outcome.subject)),
            }
            for finding in outcome.findings
        ],
    }


def _places(finding: Finding, subject: Subject | None) -> Iterable[dict[str, Any]]:
    for place in finding.places if subject is not None else ():
        assert subject is not None
        split = subject.splits[place.side]
        yield {
            "split": split.split,
            "image_id": split.image_id(place.index),
            "file": subject.name(place),
            "about": place.about,
            "boxes": [list(box) for box in place.boxes],
        }
