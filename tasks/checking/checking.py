"""Makes the checks, says what they found and draws it."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from backbones.errors import UserError
from tasks.checking.arguments import Part
from tasks.checking.catalogue import DATA, SECONDS, TRAINING
from tasks.checking.clock import Clock
from tasks.checking.finding import GRADES, Finding
from tasks.checking.network import NETWORK_UNUSABLE, Network
from tasks.checking.opening import not_checked, open_subjects
from tasks.checking.outcome import Found, Outcome, show, write_json
from tasks.checking.pictures import draw
from tasks.checking.subject import Subject
from tasks.config import Experiment
from tasks.progress import Reporter

T = TypeVar("T")


def check(
    config: Experiment,
    *,
    only: Sequence[Part] = ("data", "training"),
    seconds: float = 40.0,
    json_file: Path | None = None,
    out: Path | None = None,
) -> Outcome:
    """Check an experiment, print a table of what was found, and draw it.

    Args:
        config: the resolved experiment.
        only: which halves of the checks to make.
        seconds: about how long it may take.
        json_file: file to write the findings to as well.
        out: folder for pictures; None is `checks/<name>`.

    Raises:
        UserError: `seconds` is not above 0, or a file cannot be written.
    """
    if not seconds > 0:
        raise UserError(f"--seconds is {seconds:g}; expected a number above 0")
    outcome = find(config, only, seconds)
    reporter = Reporter()
    show(outcome, reporter)
    if json_file is not None:
        write_json(outcome, json_file)
    folder = out or Path("checks") / config.name
    count = draw([each for each in outcome.found if each.finding.kind.grade != "note"], folder)
    if count:
        reporter.say(f"{count} pictures of what was found: {folder}")
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
    subjects = open_subjects(config, clock)
    if isinstance(subjects, Finding):
        return Outcome([Found(subjects, None)], [], time.monotonic() - start)
    found: list[Found] = []
    for number, subject in enumerate(subjects):
        subject.clock = clock.portion(1.0 if number == len(subjects) - 1 else 1 / len(subjects))
        found += [Found(finding, subject) for finding in _look(subject, only)]
    found.sort(key=lambda each: GRADES.index(each.finding.kind.grade))
    return Outcome(found, subjects, time.monotonic() - start)


def _look(subject: Subject, only: Sequence[Part]) -> Iterator[Finding]:
    late: list[str] = []
    if "data" in only:
        yield from _make(DATA, subject, subject.clock, late)
    if "training" in only:
        try:
            network = Network(subject)
            assert network.model is not None  # which builds it
        except UserError as error:
            fix = "follow the advice in the message"
            yield Finding(NETWORK_UNUSABLE, str(error), "a config that can be trained", fix)
        else:
            yield from _make(TRAINING, network, subject.clock, late)
    if late:
        yield not_checked(late, subject.clock)


def _make(
    checks: Mapping[str, Callable[[T], Iterator[Finding]]], about: T, clock: Clock, late: list[str]
) -> Iterator[Finding]:
    for name, made in checks.items():
        if clock.left() > SECONDS.get(name, 0.0):
            yield from made(about)
        else:
            late.append(name)
