"""A run of two processes, on this machine or on two hosts, that goes on while it is harmed."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.tasks.hosts import Hosts
from tests.tasks.launches import RESTARTS, STANDALONE, Launch
from tests.tasks.test_resume import latest_step

STALL_SECONDS = 10.0
GIVEN_UP = 3 * STALL_SECONDS  # as `tasks.device` sets it
RECOVERY_SECONDS = 300  # torchrun grants a stopped process 30 s, and to start takes a while on a busy machine


@dataclass
class Scene:
    """A run of two processes that goes on while it is harmed.

    Attributes:
        run: its folder.
        config: of the run, as a file.
        draw: decides what is random.
        hosts: the two it runs on; None for this machine.
        launches: of torchrun, one a host.
        again: how often a torchrun was started again.
    """

    run: Path
    config: Path
    draw: random.Random
    hosts: Hosts | None
    launches: list[Launch] = field(default_factory=list)
    again: int = 0

    def start(self, host: int) -> Launch:
        """Start the torchrun of a host."""
        output = self.run.with_name(f"{self.run.name}_host_{host}_{self.again}.txt")
        words = (self.config, "--out", self.run, "--runner.stall_seconds", str(STALL_SECONDS))
        if self.hosts is not None:
            return self.hosts.launch(host, words, output, restarts=100)
        return Launch(words, ("--max_restarts", "100", *STANDALONE), output, environment=RESTARTS)

    def start_again(self, host: int) -> None:
        self.again += 1
        self.launches[host] = self.start(host)

    def processes(self) -> set[int]:
        """Ids of those that train now."""
        return {process for launch in self.launches for process in launch.processes().values()}

    def wait_until(self, holds: Callable[[], bool], what: str, start_again: bool = False) -> None:
        """A torchrun that fails meanwhile is a failure, or is started again, as a job scheduler would."""
        end = time.monotonic() + RECOVERY_SECONDS
        while not holds():
            for host, launch in enumerate(self.launches):
                code = launch.process.poll()
                if code:
                    assert start_again, f"the torchrun of host {host} ended with {code}: {what}"
                    self.start_again(host)
            assert time.monotonic() < end, f"not within {RECOVERY_SECONDS} s: {what}"
            time.sleep(0.01)

    def wait_for_steps(self, start_again: bool = False) -> None:
        """Until the run has gone on."""
        before = latest_step(self.run)
        self.wait_until(lambda: latest_step(self.run) > before, f"a step after {before}", start_again)

    def wait_for_instant(self) -> None:
        """Until a random instant: while processes start, or few steps later, so that the run outlasts its faults."""
        if self.draw.random() < 1 / 3:
            end, last = time.monotonic() + self.draw.uniform(0, 20), latest_step(self.run)
        else:
            end, last = math.inf, latest_step(self.run) + self.draw.randint(0, 4)
        self.wait_until(lambda: time.monotonic() > end or latest_step(self.run) > last, "the next instant")
        time.sleep(self.draw.uniform(0, 0.5))

    def victim(self) -> int:
        """A process of random rank."""
        rank = self.draw.randrange(2)
        self.wait_until(lambda: rank in self.launches[0].processes(), f"rank {rank}")
        return self.launches[0].processes().get(rank, 0)
