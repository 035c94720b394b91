"""Reports, comparisons and contact sheets in a real browser: on a phone and a desk, in the light and in the dark."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tasks.config import Experiment
from tests.tasks.browser import launched, note_complaints

pytestmark = pytest.mark.slow
WIDTHS = (390, 1280)
FAULTS = (Path(__file__).parent / "page_faults.js").read_text()


def look(page: Page, file: Path) -> None:
    """Open a page and raise where it does not fit, cannot be read, complains or asks for anything."""
    complaints = note_complaints(page, (file.as_uri(), "data:"))
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(own => own.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    assert page.evaluate(FAULTS) == []
    assert complaints == []


@pytest.fixture
def pages(
    trained: Path,
    trained_masks: Path,
    trained_labels: Path,
    tiny: Experiment,
    written,
    command: Callable,
    tmp_path: Path,
) -> list[Path]:
    """A report of each kind of target, a comparison and a contact sheet."""
    found = []
    for run in (trained, trained_masks, trained_labels):
        found.append(tmp_path / f"{run.name}{len(found)}.html")
        assert command("report", run, "--draws", "30", "--images", "2", "--out", found[-1]).code == 0
    twin, comparison, data = (
        shutil.copytree(trained_labels, tmp_path / "twin"),
        tmp_path / "c.html",
        tmp_path / "d.html",
    )
    assert command("compare", trained_labels, twin, "--draws", "100", "--out", comparison).code == 0
    assert command("browse", written(tiny), "--images", "4", "--epochs", "2", "--out", data).code == 0
    return [*found, comparison, data]


def test_pages(pages: list[Path]) -> None:
    with launched() as browser:
        for theme in ("light", "dark"):
            for width in WIDTHS:
                with browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme) as context:
                    for file in pages:
                        look(context.new_page(), file)
