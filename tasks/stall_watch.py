"""Several processes wait for each other at every step; this tells which one does not go on, and where it stands.

Each process has a thread that tells the others, through the store they found each other by, how long ago its loop went
on, and once that is too long, the stack of its main thread. A process that is stopped altogether tells nothing any
more, which is reported as well. The first process keeps the store: when that one is stopped, or cut off, calls of the
store do not return, so they have a thread of their own that nothing waits for.
"""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

from tasks.progress import Reporter

# What waits for other processes is called by torch.distributed, or ends in one of these functions.
WAITING = {"_engine_run_backward", "all_reduce", "all_gather_object", "all_gather", "broadcast", "barrier", "wait"}
DISTRIBUTED = f"{os.sep}torch{os.sep}distributed{os.sep}"


@dataclass(frozen=True, slots=True)
class Sign:
    """What one process told last.

    Attributes:
        count: of its signs so far; a process whose count stands still is stopped or cut off.
        idle: seconds since its loop went on.
        stack: of its main thread, innermost call last; empty while it goes on.
        waiting: whether it waits for another process, as far as its innermost function tells.
    """

    count: int
    idle: float
    stack: str = ""
    waiting: bool = False


class StallWatch:
    """Reports, once, when the processes of a run stand still. Does nothing where there is only one.

    Args:
        reporter: whose `last_sign` tells that the loop goes on.
        seconds: without one after which this is a stall.
        rank: of this process.
        ranks: number of processes.

    Attributes:
        report: what was said, empty if nothing was.
    """

    def __init__(self, reporter: Reporter, seconds: float, rank: int, ranks: int) -> None:
        self.reporter, self.seconds, self.rank, self.ranks = reporter, seconds, rank, ranks
        self.pause = min(seconds / 10, 5.0)
        self.report = ""
        self._count = 0
        self._main = threading.main_thread().ident or 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall watch", daemon=True)
        self._exchange_thread = threading.Thread(target=self._exchange, name="stall signs", daemon=True)
        self._heard: dict[int, Sign] = {}

    def __enter__(self) -> Self:
        self.reporter.last_sign = time.monotonic()
        if self.ranks > 1:
            self._store = PrefixStore("stall_watch", _get_default_store())
            self._answered = time.monotonic()
            self._exchange_thread.start()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
            self._exchange_thread.join(1.0)  # not for ever: a store that is gone does not answer

    def _exchange(self) -> None:
        """Tell the others how this process does, and hear how they do."""
        try:
            while not self._done.wait(self.pause):
                self._count += 1
                self._store.set(str(self.rank), json.dumps(asdict(self._sign())))
                self._heard = self._signs()
                self._answered = time.monotonic()
        except RuntimeError:
            return  # The store is gone: the run is ending, in order or not.

    def _watch(self) -> None:
        counts: dict[int, int] = {}
        changed: dict[int, float] = {}
        while not self._done.wait(self.pause):
            signs, now = self._heard, time.monotonic()
            for rank, sign in signs.items():
                if counts.get(rank) != sign.count:
                    counts[rank], changed[rank] = sign.count, now
            if now - self._answered <= self.seconds:
                # The lowest process that is alive speaks.
                alive = [rank for rank in signs if now - changed[rank] <= self.seconds]
                silent, speaker = [rank for rank in range(self.ranks) if rank not in alive], min(alive, default=None)
            else:
                # The others cannot be heard; the lowest that does not keep the store speaks.
                signs, alive, silent, speaker = {self.rank: self._sign()}, [self.rank], [0], 1
            if not self._sign().stack:
                self.report = ""
            # Once all of those that are alive have stood still for long enough.
            elif not self.report and self.rank == speaker and all(signs[rank].stack for rank in alive):
                self.report = stall_report(signs, alive, silent)
                print(self.report, file=sys.stderr, flush=True)

    def _sign(self) -> Sign:
        """How this process does."""
        idle = time.monotonic() - self.reporter.last_sign
        frame = sys._current_frames().get(self._main)
        if idle <= self.seconds or frame is None:
            return Sign(self._count, idle)
        stack = traceback.extract_stack(frame)
        waiting = stack[-1].name in WAITING or any(DISTRIBUTED in call.filename for call in stack)
        return Sign(self._count, idle, "".join(stack.format()), waiting)

    def _signs(self) -> dict[int, Sign]:
        """The last sign of every process that has given one, by rank."""
        known = [rank for rank in range(self.ranks) if self._store.check([str(rank)])]
        return {rank: Sign(**json.loads(self._store.get(str(rank)))) for rank in known}


def stall_report(signs: Mapping[int, Sign], alive: list[int], silent: list[int]) -> str:
    """Which processes hold up the others, and where they are.

    Args:
        signs: the last of each process, by rank.
        alive: ranks that still give signs.
        silent: ranks that do not.
    """
    holding = [rank for rank in alive if not signs[rank].waiting] if not silent else []
    lines = [f"stalled: no process has gone on for {min(signs[rank].idle for rank in alive):.0f} s"]
    gone = "gives no sign of life: it is stopped, or its host or network is gone"
    lines += [f"process {rank} {gone}" for rank in silent]
    for rank in holding or [rank for rank in alive if not silent]:
        lines += [f"process {rank} stands here:", signs[rank].stack.rstrip()]
    others = [rank for rank in alive if rank not in holding] if silent or holding else []
    if others:
        lines.append(f"waiting for it: process{'es' * (len(others) > 1)} {', '.join(map(str, others))}")
    return "\n".join(lines)
