"""A page as one HTML file that needs nothing from elsewhere."""

import re
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from tasks.explanation.sheet import scale
from tasks.report.blocks import Page

HERE = Path(__file__).parent


def render(page: Page) -> str:
    """The page as HTML; all text in it is escaped, charts and the stylesheet are ours."""
    style = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    return _environment().get_template("page.html").render(page=page, style=style, scale=_scale())


def _scale() -> str:
    """The colours of heat maps on a middle grey, as a gradient from nothing to the strongest."""
    colours = (f"rgb({red}, {green}, {blue})" for red, green, blue in scale(9).tolist())
    return f"linear-gradient(to right, {', '.join(colours)})"


def fold(text: str) -> str:
    """An id for a heading: letters, digits and hyphens of it."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in text.lower()).strip("-")


def breakable(text: str) -> Markup:
    """A long name that may be broken behind its underscores, dots and slashes, but not within a number."""
    return Markup("<wbr>").join(re.findall(r".+?(?:[_/]|\.(?!\d)|$)", text, flags=re.DOTALL))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fold": fold, "breakable": breakable}
    return environment
