"""Downloads from a server that works, breaks off, lies, and is not there."""

import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backbones import UserError
from backbones.download import cache_folder, download

CONTENT = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_fetches_once(server: Any, tmp_path: Path) -> None:
    url = server.serve("/net.pth", CONTENT)
    path = tmp_path / "deep" / "net.pth"
    for _ in range(2):
        assert download(url, path, SHA256[:8]).read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert not path.with_name("net.pth.part").exists()


def test_wrong_checksum_leaves_nothing_behind(server: Any, tmp_path: Path) -> None:
    url = server.serve("/net.pth", CONTENT)
    with pytest.raises(UserError) as error:
        download(url, tmp_path / "net.pth", "0123abcd")
    assert f"{url}: the downloaded file has SHA-256 {SHA256[:8]}..., not 0123abcd..." in one_line(error)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_off_is_said_and_resumed(server: Any, tmp_path: Path, ranges: bool) -> None:
    url = server.serve("/net.pth", CONTENT, cut=1_000_000, ranges=ranges)
    path = tmp_path / "net.pth"
    with pytest.raises(UserError) as error:
        download(url, path, SHA256[:8])
    assert f"broke off after 1000000 of {len(CONTENT)} bytes" in one_line(error)
    assert not path.exists()
    assert download(url, path, SHA256[:8]).read_bytes() == CONTENT
    assert server.requests[-1] == ("/net.pth", "bytes=1000000-")


def test_complete_part_of_a_killed_run_is_used(server: Any, tmp_path: Path) -> None:
    url = server.serve("/net.pth", CONTENT)
    (tmp_path / "net.pth.part").write_bytes(CONTENT)
    assert download(url, tmp_path / "net.pth", SHA256).read_bytes() == CONTENT


def test_many_at_once_fetch_once(server: Any, tmp_path: Path) -> None:
    url = server.serve("/net.pth", CONTENT)
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: download(url, tmp_path / "net.pth", SHA256), range(8)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(server.requests) == 1


def test_offline_says_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound but not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/net-0123abcd.pth"
        with pytest.raises(UserError) as error:
            download(url, tmp_path / "net.pth", "0123abcd")
    message = one_line(error)
    assert f"cannot fetch {url} (" in message
    assert "refused" in message
    assert "give its path instead" in message
    assert str(tmp_path / "net.pth") in message


def test_missing_file_is_an_error_of_the_users(server: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot fetch .*/gone.pth \(Not Found\)"):
        download(f"{server.url}/gone.pth", tmp_path / "gone.pth", "00")


@pytest.mark.parametrize(("stated", "taken"), [(SHA256, True), ("0" * 64, False)])
def test_checksum_stated_at_a_redirect_is_checked(server: Any, tmp_path: Path, stated: str, taken: bool) -> None:
    server.serve("/storage", CONTENT)
    url = server.serve("/hub", redirect="/storage", headers={"X-Linked-ETag": f'"{stated}"'})
    if taken:
        assert download(url, tmp_path / "net").read_bytes() == CONTENT
    else:
        with pytest.raises(UserError, match="not 0000"):
            download(url, tmp_path / "net")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POLYHEAD_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("POLYHEAD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "polyhead"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "polyhead"
