"""Fetch a file once into the cache: with progress, resumed when it broke off, checked, and only then given its name."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from backbones.errors import UserError


def cache_folder() -> Path:
    """Where downloads are kept: POLYHEAD_CACHE, or `polyhead` under XDG_CACHE_HOME or `~/.cache`."""
    given = os.environ.get("POLYHEAD_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "polyhead"


def download(url: str, path: Path, sha256: str | None = None) -> Path:
    """Make `path` hold what lies at `url`, fetching it unless it is there already.

    Several processes may ask at the same time: one fetches, the others wait for it.

    Args:
        url: http or https.
        path: where it goes; nothing has that name before the content is complete and checked.
        sha256: the first hexadecimal digits of the content's SHA-256, as many as are known; None takes what the
            server states, as the Hugging Face hub does for large files.

    Returns:
        `path`.

    Raises:
        UserError: no connection, a broken one, or content with another checksum.
    """
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.exists():
                part = path.with_name(path.name + ".part")
                stated = _fetch(url, part)
                _check(part, url, stated if sha256 is None else sha256)
                os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"cannot fetch {url} ({reason}); try again with a connection, or fetch that file elsewhere and give its "
            f"path instead, or put it at {path}"
        ) from error
    return path


class _HubChecksum(urllib.request.HTTPRedirectHandler):
    """Keeps the SHA-256 that the Hugging Face hub states where it redirects to a file's storage."""

    sha256 = ""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        self.sha256 = headers.get("X-Linked-ETag", self.sha256).strip('"')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, part: Path) -> str:
    """Append to `part` what it still lacks; returns the checksum that the server states, or nothing."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "polyhead", "Range": f"bytes={have}-"})
    hub = _HubChecksum()
    try:
        response = urllib.request.build_opener(hub).open(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies behind what is there: complete, which the checksum will tell
            return hub.sha256
        raise
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with response, Progress(*columns, console=Console(stderr=True)) as progress:
        if response.status != 206:  # the server sends it all, whatever was asked for
            have = 0
        expected = response.headers.get("Content-Length")
        total = have + int(expected) if expected else None
        task = progress.add_task(f"Downloading {url.rsplit('/', 1)[-1]}", total=total, completed=have)
        with part.open("ab" if have else "wb") as file:
            while block := response.read(1 << 20):
                file.write(block)
                progress.advance(task, len(block))
            file.flush()
            os.fsync(file.fileno())
    size = part.stat().st_size
    if total is not None and size < total:
        raise ConnectionError(
            f"the connection broke off after {size} of {total} bytes; the next try goes on from there"
        )
    return hub.sha256


def _check(part: Path, url: str, sha256: str) -> None:
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(sha256):
        part.unlink()
        raise UserError(
            f"{url}: the downloaded file has SHA-256 {digest[: max(len(sha256), 8)]}..., not {sha256}...; it was "
            "deleted: try again, and if that fails ask whether a proxy or the server changes it"
        )
