"""Two hosts on one machine: network namespaces joined by a cable that can be pulled out."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.tasks.launches import RESTARTS, Launch


class Hosts:
    """10.77.0.1 and 10.77.0.2, of which the first keeps the rendezvous. Needs root and iproute2."""

    def __init__(self) -> None:
        self.names = (f"host-a-{os.getpid()}", f"host-b-{os.getpid()}")

    def __enter__(self) -> Self:
        first, second = self.names
        _ip("netns", "add", first)
        _ip("netns", "add", second)
        _ip("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
        for number, name in enumerate(self.names, 1):
            inside = ("-n", name)
            _ip(*inside, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            _ip(*inside, "link", "set", "cable", "up")
            _ip(*inside, "link", "set", "lo", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self.names:
            _ip("netns", "delete", name)

    def cut(self) -> None:
        """Pull the cable out."""
        _ip("-n", self.names[1], "link", "set", "cable", "down")

    def join(self) -> None:
        """Put the cable in again."""
        _ip("-n", self.names[1], "link", "set", "cable", "up")

    def launch(self, number: int, arguments: Sequence[str | Path], output: Path, restarts: int) -> Launch:
        """One process on the host of that number, 0 or 1; `arguments`, `output` as for `Launch`."""
        options = (
            *("--nnodes", "2", "--nproc_per_node", "1", "--max_restarts", str(restarts), "--rdzv_backend", "c10d"),
            *("--rdzv_endpoint", "10.77.0.1:29400", "--rdzv_id", "test"),
            *("--local_addr", f"10.77.0.{number + 1}", "--rdzv_conf", f"is_host={int(number == 0)},read_timeout=1800"),
        )
        prefix = ("ip", "netns", "exec", self.names[number])
        return Launch(arguments, options, output, prefix, {"GLOO_SOCKET_IFNAME": "cable", **RESTARTS})


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
