"""Charts as small SVG that takes its colours and letters from the page, so that it is dark where the page is."""

import io
import re
from collections.abc import Callable
from itertools import count
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

INK, GRID = "#0a0b0c", "#0d0e0f"  # stand for the colours of the page
SERIES = tuple(f"#a0000{number}" for number in range(1, 9))
WIDTH = 4.6  # inches, at 72 px the width of a column of the page
_numbers = count(1)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "polyhead",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-5, 6),  # powers of ten beyond which a factor stands in the corner
    "axes.formatter.useoffset": False,
    "axes.formatter.use_mathtext": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.pad": 5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
}


def chart(draw: Callable[[Axes], object], height: float = 2.7) -> str:
    """An SVG element.

    Args:
        draw: fills the axes, in colours of `SERIES`, `INK` and `GRID` alone.
        height: in inches of 72 px; the width is `WIDTH`.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                _plain_labels(axis)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _of_the_page(text.getvalue())


def _plain_labels(axis: Axis) -> None:
    """Numbers as they are written, and not as powers of ten, whose letters are no text of the page."""
    low, high = axis.get_view_interval()
    if high < 1000 * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def colour(number: int) -> str:
    """The colour of a series, counted from 0."""
    return SERIES[number % len(SERIES)]


def _of_the_page(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    # Of the letters, size and weight alone: the family is that of the page.
    svg = re.sub(r"font: (?:\w+ )*?([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    for number, series in enumerate(SERIES, 1):
        svg = svg.replace(series, f"var(--s{number})")
    # Ids are unique in the page; what nothing refers to needs none.
    prefix = f"c{next(_numbers)}-"
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{prefix}{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1).strip()
