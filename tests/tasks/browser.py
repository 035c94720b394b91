"""A real browser for pages, where one is installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser without a window; skips the test where there is none."""
    browser_file = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser_file is None:
        pytest.skip(f"no browser is installed; expected one of {', '.join(BROWSERS)}")
    with sync_playwright() as play, play.chromium.launch(executable_path=browser_file, args=FLAGS) as browser:
        yield browser


def note_complaints(page: Page, allowed: tuple[str, ...]) -> list[str]:
    """A list that gets the page's errors, and what it asks for that begins with none of `allowed`."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda asked: None if asked.url.startswith(allowed) else complaints.append(asked.url))
    return complaints
