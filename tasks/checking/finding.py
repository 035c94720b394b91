"""What a check says: kinds of findings, each with its grade, and findings with their places."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Grade = Literal["error", "warning", "note"]
Side = Literal["train", "val"]
GRADES: tuple[Grade, ...] = ("error", "warning", "note")
SHOWN = 6  # places of a finding that are kept


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding.

    Attributes:
        code: its name, for programs and the documentation.
        grade: `error`: the run would fail, or its numbers would be wrong. `warning`: very likely a mistake. `note`: to
            be known.
        looks: what is looked at, and when it is found.
        means: what follows from it for the run.
    """

    code: str
    grade: Grade
    looks: str
    means: str


@dataclass(frozen=True, slots=True)
class Place:
    """An image in which something was seen.

    Attributes:
        side: which split.
        index: of the image in it.
        about: what was seen there; empty: what the finding says.
        boxes: x1 y1 x2 y2 in pixels of the original image, to be pointed out.
    """

    side: Side
    index: int
    about: str = ""
    boxes: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check has to say.

    Attributes:
        kind: what kind of thing.
        seen: what was found, with numbers.
        expected: what would have been right.
        fix: what to do.
        places: some of the images it was seen in; in pairs, where images are compared.
        pairs: they are.
    """

    kind: Kind
    seen: str
    expected: str
    fix: str
    places: tuple[Place, ...] = ()
    pairs: bool = False


def first(places: Sequence[Place]) -> tuple[Place, ...]:
    """As many as a finding keeps."""
    return tuple(places[:SHOWN])


def some(names: Sequence[str], most: int = 3) -> str:
    """A few names, and how many there are more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
