"""Two trainings in one folder: the second is refused, and only while the first is there."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backbones import UserError
from tasks import run_lock
from tasks.run_lock import RunLock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked there")
ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import os, sys, time
from pathlib import Path
from tasks.run_lock import RunLock

RunLock(Path(sys.argv[1])).take()
child = os.fork() or time.sleep(60)
print(child, flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that holds the lock of `tmp_path`, and one that it has forked off."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        yield process, child
        process.kill()
        os.kill(child, signal.SIGKILL)


def test_refused_while_another_holds_it(
    holder: tuple[subprocess.Popen[str], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "PATIENCE", 0.2)
    with pytest.raises(UserError, match=rf"process {holder[0].pid} on .* is training in it; wait until"):
        RunLock(tmp_path).take()


def test_free_when_its_holder_is_killed_though_a_child_lives_on(
    holder: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, child = holder
    process.kill()
    started = time.monotonic()
    lock = RunLock(tmp_path)
    lock.take()
    assert time.monotonic() - started < 3
    os.kill(child, 0)  # is there
    assert f"process {os.getpid()} on" in lock.file.read_text()
    lock.release()


def test_a_run_is_not_resumed_while_it_trains(
    trained: Path, command: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(self: RunLock) -> None:
        raise UserError(f"{self.folder} is held")

    before = (trained / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(RunLock, "take", held)
    assert command("train", "--resume", trained).complaint == f"{trained} is held"
    assert (trained / "metrics.jsonl").read_bytes() == before
