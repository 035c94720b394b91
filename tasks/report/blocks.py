"""What a page is made of; the template knows how each kind of block looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    quiet: bool = False
    """A remark that a reader may pass over."""
    strong: bool = False
    """What a reader came for."""


@dataclass(frozen=True, slots=True)
class Command:
    """What was typed, as it can be typed again."""

    kind: ClassVar[str] = "command"
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """Where a number lies between 0 and 1, and its interval, all 0 .. 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Tile:
    """One number to be seen at once, with a line on how sure it is or what it means.

    Attributes:
        name: of the number.
        value: with its unit.
        note: below it.
        bar: drawn below that.
        main: it stands for all of them.
    """

    name: str
    value: str
    note: str = ""
    bar: Bar | None = None
    main: bool = False


@dataclass(frozen=True, slots=True)
class Tiles:
    """Numbers side by side."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart as SVG, whose colours are those of the page.

    Attributes:
        title: heading.
        svg: from `tasks.report.chart.chart`.
        told: what a reader would see in it, for those who cannot.
        caption: how to read it.
        keys: names of the series, in the order of their colours, where there are several.
    """

    title: str
    svg: str
    told: str
    caption: str = ""
    keys: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """Charts in as many columns as fit."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell with a background, `strength`, 0 .. 1, of the colour for `tone`, or with a small `note` below its text."""

    text: str
    strength: float = 0.0
    tone: str = "good"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text, or of `Cell`; the first column heads each row.

    Attributes:
        title: heading.
        columns: headings.
        rows: as many entries each.
        note: below it.
        folded: shown when asked for.
        prose: all columns are text that may wrap, and none numbers.
        words: the last column is text that may wrap, and the others are numbers.
        stacked: on a phone each row takes two lines, without headings, which can be done without.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    note: str = ""
    folded: bool = False
    prose: bool = False
    words: bool = False
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with a value each, in as many columns as fit.

    Attributes:
        title: heading.
        facts: values by name.
        folded: shown when asked for.
    """

    kind: ClassVar[str] = "facts"
    title: str
    facts: Mapping[str, str]
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """An image: its data URI, size in pixels, what it shows, a line below it, and whether it is a heat map."""

    source: str
    width: int
    height: int
    told: str
    caption: str = ""
    heat: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """Pictures of one image of the data, side by side."""

    title: str
    pictures: Sequence[Picture]
    note: str = ""
    marks: Sequence[str] = ()
    """Names by which examples can be shown alone, such as their classes."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples below each other, or side by side where they are `compact`.

    Attributes:
        title: heading.
        examples: in order.
        note: below the heading.
        filters: marks of which those of one can be shown alone.
        keys: what the colours in the pictures stand for, each with red, green and blue, 0 .. 255.
        compact: narrow examples.
        heat: heat maps are among the pictures, so that a scale tells their colours.
    """

    kind: ClassVar[str] = "examples"
    title: str
    examples: Sequence[Example]
    note: str = ""
    filters: Sequence[str] = ()
    keys: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    compact: bool = False
    heat: bool = False


Block = Text | Command | Tiles | Figures | Table | Facts | Examples


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page, with an entry in its table of contents."""

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page.

    Attributes:
        title: of the window, and the heading.
        lead: a line below it.
        facts: short ones by name, in the head.
        sections: in order.
        legend: series of all charts by name, with their number, where charts share them.
    """

    title: str
    lead: str
    facts: Mapping[str, str]
    sections: Sequence[Section]
    legend: Mapping[str, int] = field(default_factory=dict)
