"""Runs of several processes, started by torchrun, whose processes a test can reach."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESTARTS = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
STANDALONE = ("--standalone", "--nproc_per_node", "2")


class Launch:
    """`torchrun` with the training of a config, going on beside the test.

    Args:
        arguments: of `tools/train.py`.
        options: of torchrun.
        output: file for what it says.
        prefix: of the command, such as the entry into another network.
        environment: variables beside the test's own.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        options: Sequence[str],
        output: Path,
        prefix: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.output = output
        command = [*prefix, sys.executable, "-m", "torch.distributed.run", *options, ROOT / "tools" / "train.py"]
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [str(word) for word in (*command, *arguments)],
                env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text()

    def pid(self, rank: int) -> int:
        """Of the process that trains as `rank`; waits until it is there."""
        self.wait_until(lambda: rank in self.processes())
        return self.processes()[rank]

    def processes(self) -> dict[int, int]:
        """Ids of the processes that train, by rank, as far as they are there now."""
        found: dict[int, int] = {}
        for process in sorted(_descendants(self.process.pid), reverse=True):
            rank = _variable(process, "RANK")
            if rank is not None:
                found[rank] = process  # The lowest id last: its loader processes inherit the variable.
        return found

    def wait_until(self, holds: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, f"ended too early:\n{self.said()[-4000:]}"
            assert time.monotonic() < end, f"did not get there:\n{self.said()[-4000:]}"
            time.sleep(0.01)

    def end(self, seconds: float = 240) -> int:
        return self.process.wait(seconds)

    def kill(self) -> None:
        """The launcher and all it has started, if they are still there."""
        for process in [*_descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def running(pid: int) -> bool:
    """Whether a process is there; a dead one that nobody has asked for yet is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _descendants(pid: int) -> list[int]:
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return [process for child in children for process in (child, *_descendants(child))]


def _variable(pid: int, name: str) -> int | None:
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((int(word.split(b"=")[1]) for word in words if word.startswith(f"{name}=".encode())), None)
