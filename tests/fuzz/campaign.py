"""Gives spoilt inputs to everything that reads: python -m tests.fuzz.campaign --inputs 100000 [--seed 0].

An input either works or raises `UserError` with one line; anything else is a finding, as are inputs that take longer
than ten seconds and files written outside of the folder. Every finding is told with what makes it again: `--only coco
--first 1234 --inputs 1`.
"""

import argparse
import hashlib
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from backbones.errors import UserError
from tests.fuzz.targets import Target, targets

SECONDS = 10


class TookTooLong(Exception):
    """An input that does not come to an end."""


@dataclass
class Findings:
    """What came of a campaign.

    Attributes:
        worked: inputs that were read, by target.
        refused: inputs that raised `UserError`, by target.
        found: the first input of each kind of finding, as "target, seed: what".
        counts: how often each kind came up.
    """

    worked: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    found: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def campaign(inputs: int, seed: int = 0, only: str | None = None, first: int = 0) -> Findings:
    """Give every target an equal share of `inputs`; the n-th input of a target depends on `seed` and n alone."""
    findings = Findings()
    before = signal.signal(signal.SIGALRM, _stop)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outer = Path(folder)
        chosen = {name: one for name, one in targets(outer / "inside").items() if only in (None, name)}
        try:
            for name, target in chosen.items():
                for number in range(first, first + -(-inputs // len(chosen))):
                    _give(findings, name, target, seed, number)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        if written := [path.name for path in outer.iterdir() if path.name != "inside"]:
            findings.found["written outside"] = f"files were written outside of the folder: {written}"
    return findings


def _give(findings: Findings, name: str, target: Target, seed: int, number: int) -> None:
    key = hashlib.sha256(f"{name}/{seed}/{number}".encode()).digest()
    signal.alarm(SECONDS)
    try:
        target(random.Random(key))
        findings.worked[name] += 1
    except UserError as error:
        findings.refused[name] += 1
        if "\n" in str(error):
            _note(findings, name, number, f"more than one line: {str(error)[:200]!r}")
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames][-3:]
        _note(findings, name, number, f"{type(error).__name__} at {' > '.join(own)}", str(error)[:200])
    finally:
        signal.alarm(0)


def _note(findings: Findings, name: str, number: int, kind: str, detail: str = "") -> None:
    findings.counts[f"{name}: {kind}"] += 1
    findings.found.setdefault(f"{name}: {kind}", f"--only {name!r} --first {number}: {kind} {detail}")


def _stop(number: int, frame: FrameType | None) -> None:
    raise TookTooLong


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    begun = time.monotonic()
    findings = campaign(arguments.inputs, arguments.seed, arguments.only, arguments.first)
    for name in sorted(findings.worked.keys() | findings.refused.keys()):
        print(f"{name}: {findings.worked[name]} worked, {findings.refused[name]} refused in one line")
    total = findings.worked.total() + findings.refused.total() + findings.counts.total()
    print(f"{total} inputs in {time.monotonic() - begun:.0f} s, {len(findings.found)} kinds of findings")
    for kind, told in findings.found.items():
        print(f"{findings.counts[kind]} times {told}")
    return 1 if findings.found else 0


if __name__ == "__main__":
    sys.exit(main())
