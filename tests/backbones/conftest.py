"""A web server on the loopback interface that serves given bytes, and can fail in the ways that real ones do."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest


@dataclass
class Served:
    """One address. `cut` bytes are sent of the first answer only; `redirect` answers with another address."""

    content: bytes = b""
    cut: int | None = None
    ranges: bool = True
    redirect: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeServer:
    url: str
    files: dict[str, Served] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of each request, in order."""

    def serve(self, path: str, content: bytes = b"", **how: Any) -> str:
        """Serve `content` under `path`; `how` as the fields of `Served`. Returns the address."""
        self.files[path] = Served(content, **how)
        return self.url + path


@pytest.fixture
def server() -> Iterator[FakeServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            fake.requests.append((self.path, wanted))
            served = fake.files.get(self.path)
            if served is None:
                self.send_error(404)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and served.ranges else 0
            if served.redirect:
                self.send_response(302)
                self.send_header("Location", served.redirect)
            elif start and start >= len(served.content):
                self.send_response(416)
            else:
                self.send_response(206 if wanted and served.ranges else 200)
            for name, value in served.headers.items():
                self.send_header(name, value)
            body = b"" if served.redirect else served.content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: served.cut])
            served.cut = None

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeServer(f"http://127.0.0.1:{http.server_port}")
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("POLYHEAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
