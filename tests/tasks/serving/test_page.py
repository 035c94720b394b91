"""The page in a real browser, against the real server in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.tasks.browser import launched
from tests.tasks.serving.conftest import encoded

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.slow


@pytest.fixture
def server(trained_joint: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`tools/serve.py` and its address."""
    command = [sys.executable, "-u", str(ROOT / "tools" / "serve.py"), str(trained_joint), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--max-megabytes", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://localhost:\d+", line):
                break
        else:
            pytest.fail(f"did not start: {process.communicate()}")
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("told", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_stops_when_told(
    server: tuple[subprocess.Popen[str], str], image: Path, told: signal.Signals, code: int
) -> None:
    process, address = server
    with httpx.Client(base_url=address, timeout=60) as client:
        assert client.post("/predict", content=image.read_bytes()).status_code == 200
        assert client.post("/predict", content=bytes(200_000)).status_code == 413
        process.send_signal(told)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert "Traceback" not in said


def test_page(server: tuple[subprocess.Popen[str], str], image: Path, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    _, address = server
    complaints: list[str] = []
    with launched() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on(
            "request", lambda asked: None if asked.url.startswith((address, "data:")) else complaints.append(asked.url)
        )
        page.goto(address)
        expect(page.locator("#about")).to_contain_text("boxes of")
        page.set_input_files("#file", image)
        expect(page.locator("#panel")).to_be_visible(timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth") == 390

        rows = page.locator("#found > div", has_text="boxes").locator("button.row")
        counts = []
        for threshold in ("0", "0.5", "1"):
            page.locator("#threshold").fill(threshold)
            counts.append(rows.count())
        assert counts[0] > counts[2] == 0
        assert counts == sorted(counts, reverse=True)
        page.locator("#threshold").fill("0")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download JSON").click()
        download.value.save_as(tmp_path / "x.json")
        answer = json.loads((tmp_path / "x.json").read_text())
        found = answer["heads"]["boxes"]["found"]
        assert len(found) == counts[0]
        assert download.value.suggested_filename == f"{image.stem}.json"

        # A class that is switched off is in neither the list nor the picture.
        before = page.evaluate("document.querySelector('#canvas').toDataURL()")
        name = found[0]["label"]
        page.locator("#class-list label", has_text=name).click()
        assert rows.count() == sum(box["label"] != name for box in found)
        assert page.evaluate("document.querySelector('#canvas').toDataURL()") != before
        with page.expect_download() as download:
            page.get_by_role("button", name="Download picture").click()
        download.value.save_as(tmp_path / "x.png")
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")

        # What is refused is told, and the page goes on.
        (tmp_path / "text.jpg").write_text("hello")
        (tmp_path / "large.png").write_bytes(encoded(300, 300))
        assert not complaints
        page.set_input_files("#file", tmp_path / "text.jpg")
        expect(page.locator("#status")).to_contain_text("begin like no image")
        page.set_input_files("#file", tmp_path / "large.png")
        expect(page.locator("#status")).to_contain_text("expected at most 0.1")
        page.set_input_files("#file", image)
        expect(page.locator("#status")).to_have_text("", timeout=60_000)
    assert [said for said in complaints if "415" not in said] == []
