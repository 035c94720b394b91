"""Injects faults into real training runs: python -m tests.faults.inject --times 5.

Each fault hits a run of boxes at a random instant. The run has to end by itself with one clear line, and, once
the fault is gone, to go on to what the same run ended with that was left alone, bit for bit.
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.data.formats.cells import write_cells
from tests.faults.kills import ROOT, experiment
from tests.tasks.test_resume import Trainer, latest_step, outcome

Undo = Callable[[], object]


@dataclass
class Scene:
    """A run that goes on while a fault is injected.

    Attributes:
        trainer: has started it.
        run: its folder.
        data: its images.
        draw: decides what is random.
    """

    trainer: Trainer
    run: Path
    data: Path
    draw: random.Random


def sigterm(scene: Scene) -> Undo:
    """What a job scheduler sends."""
    os.kill(scene.trainer.pid, signal.SIGTERM)
    return lambda: None


def worker_killed(scene: Scene) -> Undo:
    """What the system does to a loader process when memory runs out."""
    children = Path(f"/proc/{scene.trainer.pid}/task/{scene.trainer.pid}/children")
    workers = [int(pid) for pid in children.read_text().split() if b"resource_tracker" not in _command(int(pid))]
    os.kill(scene.draw.choice(workers), signal.SIGKILL)
    return lambda: None


def disk_full(scene: Scene) -> Undo:
    """No file may grow beyond some bytes: checkpoints fail at a random place."""
    limit = scene.draw.randint(1000, 200_000)
    resource.prlimit(scene.trainer.pid, resource.RLIMIT_FSIZE, (limit, limit))
    return lambda: None


def read_only(scene: Scene) -> Undo:
    """The folder of the checkpoints becomes a file, in which nobody can write, not even root."""
    folder = scene.run / "checkpoints"
    folder.rename(scene.run / "aside")
    folder.touch()

    def undo() -> None:
        folder.unlink()
        (scene.run / "aside").rename(folder)

    return undo


def corrupt_image(scene: Scene) -> Undo:
    """An image is cut off while the run reads it again and again."""
    file = scene.draw.choice(sorted((scene.data / "train").glob("*.png")))
    content = file.read_bytes()
    file.write_bytes(content[: scene.draw.randint(0, len(content) - 30)])
    return lambda: file.write_bytes(content)


def no_memory(scene: Scene) -> Undo:
    """The process may take no more memory than it has."""
    pages = int(Path(f"/proc/{scene.trainer.pid}/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(scene.trainer.pid, resource.RLIMIT_AS, (limit, limit))
    return lambda: None


FAULTS: dict[str, Callable[[Scene], Undo]] = {
    "SIGTERM": sigterm,
    "worker killed": worker_killed,
    "disk full": disk_full,
    "read-only folder": read_only,
    "corrupt image": corrupt_image,
    "no memory": no_memory,
}


def truncated_checkpoint(trainer: Trainer, run: Path, draw: random.Random) -> str:
    """Cut a file of the last checkpoint off: refused in one line; without it the run goes on from the one before."""
    last = max(run.glob("checkpoints/step_*"))
    file = draw.choice(sorted(last.iterdir()))
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])
    told = _told(trainer, lambda: trainer.run("--resume", run), (2,))
    shutil.rmtree(last)
    return told


def _told(trainer: Trainer, wait: Callable[[], int], codes: tuple[int, ...]) -> str:
    """The last line of a process that ended; raises AssertionError where it did not end as it should."""
    trainer.output.write_text("", encoding="utf-8")
    code = wait()
    text = trainer.output.read_text(encoding="utf-8")
    if code not in codes:
        raise AssertionError(f"exit code {code}:\n{text[-3000:]}")
    line = text.strip().splitlines()[-1]
    # What a destructor or a dying loader process prints is no harm, but is told.
    return f"{line} [after a traceback: {_traceback(text)}]" if "Traceback" in text else line


def _traceback(text: str) -> str:
    """The error at the end of the first traceback in a text."""
    lines = text[text.index("Traceback") :].splitlines()[1:]
    return next((line for line in lines if not line.startswith((" ", "\t")) and line), "cut off")


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def inject(trainer: Trainer, config: Path, data: Path, run: Path, name: str, draw: random.Random) -> str:
    """Start a run, hit it, see how it ends, mend it and let it end; what it said."""
    trainer.start(config, "--out", run, "--data.workers", "2")
    while trainer.running() and latest_step(run) < 4:  # two checkpoints
        time.sleep(0.002)
    time.sleep(draw.uniform(0, 0.5))
    if name == "truncated checkpoint":
        trainer.kill()
        trainer.wait()
        told = truncated_checkpoint(trainer, run, draw)
    else:
        undo = FAULTS[name](Scene(trainer, run, data, draw))
        told = _told(trainer, trainer.wait, (130,) if name == "SIGTERM" else (2,))
        undo()
    if trainer.run("--resume", run) != 0:
        raise AssertionError(f"does not go on:\n{trainer.output.read_text()[-3000:]}")
    return told


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    names = [name for name in (*FAULTS, "truncated checkpoint") if arguments.only in (None, name)]
    wrong = 0
    command = [sys.executable, str(ROOT / "tests/tasks/fork_server.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server,
    ):
        assert server.stdin is not None
        place = Path(folder)
        trainer, data = Trainer(server, place / "output.txt"), write_cells(place / "cells", train=10, val=4, size=64)
        config = place / "config.json"
        config.write_text(experiment("boxes", data).model_dump_json(), encoding="utf-8")
        with contextlib.closing(server.stdin):
            if trainer.run(config, "--out", place / "alone") != 0:
                raise AssertionError(trainer.output.read_text()[-2000:])
            alone = outcome(place / "alone")
            for name in names:
                told: list[str] = []
                for number in range(arguments.times):
                    run = place / f"{name.replace(' ', '_')}_{number}"
                    try:
                        told.append(inject(trainer, config, data, run, name, random.Random(f"{name} {number}")))
                        found = outcome(run)
                        differs = [part for part in alone if found.get(part) != alone[part]]
                        assert not differs, f"it ended otherwise: {differs}"
                    except AssertionError as error:
                        wrong += 1
                        print(f"{name}, time {number}: {error}", flush=True)
                noisy = sum("[after a traceback" in line for line in told)
                print(
                    f"{name}: {len(told)} of {arguments.times} ended with one line and went on exactly, {noisy} of "
                    "them with a traceback besides",
                    flush=True,
                )
                for line in dict.fromkeys(told):
                    print(f"    {line}", flush=True)
    print(f"{wrong} went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
