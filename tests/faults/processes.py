"""Harms the processes of runs of several: python -m tests.faults.processes --only "rank killed" --times 20 --seed 0.

Two processes under torchrun, on this machine or on two hosts that are network namespaces of it (which need root and
iproute2), are killed, stopped and cut off from each other at random instants, while they start, train, save or
evaluate, several times a run. Then all that the run ended with (weights, moving average, optimizer, log and pictures)
is compared, bit for bit, with what the same run ended with that was left alone.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from tasks.data.formats.cells import write_cells
from tasks.progress import Reporter
from tests.faults.kills import ROOT, experiment
from tests.faults.scene import GIVEN_UP, RECOVERY_SECONDS, Scene
from tests.tasks.hosts import Hosts
from tests.tasks.launches import STANDALONE, Launch, running
from tests.tasks.test_resume import outcome

FAULTS_A_RUN = 5


def rank_killed(scene: Scene) -> None:
    """A process of two dies, perhaps while it starts anew for the last fault."""
    os.kill(scene.victim(), signal.SIGKILL)


def rank_stopped(scene: Scene) -> None:
    """A process stands still and goes on before the other gives it up."""
    _harmless(scene, lambda pid: os.kill(pid, signal.SIGSTOP), lambda pid: os.kill(pid, signal.SIGCONT))


def rank_stopped_for_ever(scene: Scene) -> None:
    """A process stands still until the other gives it up and torchrun starts both again."""
    pid = scene.victim()
    os.kill(pid, signal.SIGSTOP)
    scene.wait_until(lambda: pid not in scene.processes(), "the stopped process given up")
    scene.wait_for_steps()


def network_cut_short(scene: Scene) -> None:
    """The network comes back before the processes give each other up."""
    assert scene.hosts is not None
    _harmless(scene, lambda _: scene.hosts.cut(), lambda _: scene.hosts.join())  # type: ignore[union-attr]


def _harmless(scene: Scene, harm: Callable[[int], None], mend: Callable[[int], None]) -> None:
    """Nothing is started again for what is over in time."""
    pid = scene.victim() if scene.hosts is None else 0
    before = scene.processes()
    harm(pid)
    time.sleep(scene.draw.uniform(0.1, GIVEN_UP / 2))
    mend(pid)
    scene.wait_for_steps()
    assert before <= scene.processes(), "processes were started again that had not been given up"


def network_cut_long(scene: Scene) -> None:
    """The network is gone for longer than the processes wait for each other."""
    assert scene.hosts is not None
    before = scene.processes()
    scene.hosts.cut()
    time.sleep(scene.draw.uniform(GIVEN_UP + 5, 120))
    scene.hosts.join()
    scene.wait_until(lambda: not before & scene.processes(), "processes given up that were cut off")
    scene.wait_for_steps()


def torchrun_killed(scene: Scene) -> None:
    """torchrun alone dies, its processes with it, and the same command is started again."""
    scene.wait_for_steps()  # while Python starts, a process does not know yet that it is torchrun's
    before = scene.processes()
    scene.launches[0].process.kill()
    scene.launches[0].process.wait()
    time.sleep(1)
    left = [process for process in before if running(process)]
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left, "processes went on without torchrun"
    scene.start_again(0)


def host_killed(scene: Scene) -> None:
    """A host loses its power, torchrun and all, and some time later it is there again and starts the same command.

    Without the host of the rendezvous the other torchrun may end as well, and is started again too.
    """
    assert scene.hosts is not None
    host = scene.draw.randrange(2)
    scene.hosts.cut()  # first: a host without power says no farewell
    scene.launches[host].kill()
    time.sleep(scene.draw.uniform(0, 60))
    scene.hosts.join()
    scene.start_again(host)
    scene.wait_for_steps(start_again=True)


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        harm: does it, once.
        two_hosts: whether it takes two.
        told: what was done and came of it, for the summary.
    """

    harm: Callable[[Scene], None]
    two_hosts: bool
    told: str


KINDS = {
    "rank killed": Kind(rank_killed, False, "started again"),
    "rank stopped": Kind(rank_stopped, False, "waited for"),
    "rank stopped for ever": Kind(rank_stopped_for_ever, False, "given up and started again"),
    "torchrun killed": Kind(torchrun_killed, False, "started again"),
    "network cut short": Kind(network_cut_short, True, "waited for"),
    "network cut long": Kind(network_cut_long, True, "given up and started again"),
    "host killed": Kind(host_killed, True, "started again"),
}


def harmed_run(scene: Scene, kind: Kind, times: int, harmed: Callable[[], None]) -> None:
    """Start a run, harm it `times` times, calling `harmed` after each, and let it end.

    Raises:
        AssertionError: it does not go on or does not end, with what it said.
    """
    try:
        scene.launches = [scene.start(host) for host in range(1 + kind.two_hosts)]
        for _ in range(times):
            scene.wait_for_instant()
            kind.harm(scene)
            harmed()
        scene.wait_until(lambda: all(launch.process.poll() == 0 for launch in scene.launches), "the end")
    except (AssertionError, ProcessLookupError) as error:
        said = "\n".join(launch.said()[-6000:] for launch in scene.launches)
        raise AssertionError(f"{error}\n{said}") from None
    finally:
        for launch in scene.launches:
            launch.kill()


def left_alone(config: Path, run: Path) -> dict[str, Any]:
    """What a run of two processes ends with that nothing happens to."""
    launch = Launch((config, "--out", run), STANDALONE, run.with_suffix(".txt"))
    try:
        assert launch.end(RECOVERY_SECONDS) == 0, launch.said()
    finally:
        launch.kill()
    return outcome(run)


@dataclass
class Campaign:
    """Runs that are harmed, each compared with the one left alone.

    Attributes:
        folder: takes all files.
        config: of the runs, as a file.
        alone: what the run left alone ended with.
        seed: of all that is random.
        reporter: prints.
        progress: shows how far the campaign is.
    """

    folder: Path
    config: Path
    alone: dict[str, Any]
    seed: int
    reporter: Reporter
    progress: Progress

    def harm(self, name: str, times: int) -> tuple[int, int]:
        """Harm runs until a kind of fault has been done `times` times; the number of runs, and of those lost."""
        kind, bar = KINDS[name], self.progress.add_task(name, total=times)
        starts = range(0, times, FAULTS_A_RUN)
        lost = 0
        for number, start in enumerate(starts):
            run = self.folder / f"{name.replace(' ', '_')}_{number}"
            count = min(FAULTS_A_RUN, times - start)
            draw = random.Random(f"{name} {self.seed} {number}")
            try:
                with Hosts() if kind.two_hosts else nullcontext() as hosts:
                    scene = Scene(run, self.config, draw, hosts)
                    harmed_run(scene, kind, count, lambda: self.progress.advance(bar))
                found = outcome(run)
                differs = [part for part in self.alone if found.get(part) != self.alone[part]]
                assert not differs, f"it ended otherwise: {', '.join(differs)}"
                self.reporter.say(f"{name}, run {number}: {count} times, exact")
            except AssertionError as error:
                lost += 1
                self.reporter.say(f"{name}, run {number}: {error}")
            self.progress.update(bar, completed=start + count)
        return len(starts), lost


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=[*KINDS], help="kinds of faults; all, if not given")
    parser.add_argument("--times", type=int, default=5, help="faults of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    reporter, summary, wrong = Reporter(), [], 0
    with tempfile.TemporaryDirectory() as place, Progress(console=reporter.console) as progress:
        folder = Path(place)
        config = folder / "config.json"
        small = experiment("boxes", write_cells(folder / "cells", train=10, val=4, size=64))
        small.plugins = (str(ROOT / "tests/tasks/fork_server.py"),)  # has its backbone
        small.schedule.epochs, small.runner.evaluate_every = 16, 4
        config.write_text(small.model_dump_json(), encoding="utf-8")
        alone = left_alone(config, folder / "alone")
        campaign = Campaign(folder, config, alone, arguments.seed, reporter, progress)
        for name in arguments.only:
            begun = time.monotonic()
            runs, lost = campaign.harm(name, arguments.times)
            took = f"{time.monotonic() - begun:.0f} s"
            exact = f"{runs - lost} of {runs} runs exact"
            summary.append(f"{name}: {arguments.times} times, {KINDS[name].told}; {exact}; {took}")
            wrong += lost
    for line in summary:
        reporter.say(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
