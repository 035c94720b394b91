"""Kills real training runs at random instants and resumes them: python -m tests.faults.kills --kills 200.

Runs of boxes, masks and labels in turn, each of them killed by SIGKILL a number of times at times drawn at random, with
and without loader processes, until it ends. Then all that it ended with (weights, moving average, optimizer, log and
pictures) is compared, bit for bit, with what the same run ended with that was left alone.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tasks.config import ClassificationConfig, DeepLabV3PlusConfig, Experiment, FasterRCNNConfig, OptimizerConfig
from tasks.data.formats.cells import write_cells
from tests.conftest import SMALL_DETECTOR, _experiment
from tests.tasks.test_resume import Trainer, latest_step, outcome

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("boxes", "masks", "labels")
KILLS_A_RUN = 10


def experiment(kind: str, data: Path) -> Experiment:
    """A small run of 60 steps with everything in it that carries state from step to step."""
    if kind == "boxes":
        config = _experiment(kind, FasterRCNNConfig.model_validate(SMALL_DETECTOR), data)
    elif kind == "masks":
        config = _experiment(kind, DeepLabV3PlusConfig(decoder_channels=16, dropout=0.5), data)
        config.backbone.output_stride = 16
    else:
        config = _experiment(kind, ClassificationConfig(dropout=0.3), data / "image_labels.csv")
    config.backbone.name, config.backbone.norm = "small_net", None
    config.optimizer = OptimizerConfig(name="adamw", lr=1e-3)
    config.schedule.epochs, config.schedule.policy = 12, "cosine"
    config.runner.ema_decay, config.runner.save_every_steps, config.runner.log_every = 0.9, 2, 3
    config.runner.report = False
    return config


def killed_run(trainer: Trainer, config: Path, run: Path, workers: int, kills: int, draw: random.Random) -> int:
    """Start a run, kill it `kills` times or until it has ended, and let it end; how often it was killed."""
    done = 0
    fresh: list[str | Path] = [config, "--out", run, "--data.workers", str(workers)]
    while done < kills:
        begun = latest_step(run)
        trainer.start(*(["--resume", run] if begun else fresh))
        # A run without a checkpoint cannot be resumed. Then a random instant, but few steps later however fast the
        # machine, so that the run outlasts its kills.
        end, last = time.monotonic() + draw.uniform(0, 2.0), begun + 4
        while trainer.running() and (not latest_step(run) or (time.monotonic() < end and latest_step(run) < last)):
            time.sleep(0.001)
        trainer.kill()
        if trainer.wait() != -signal.SIGKILL:
            break
        done += 1
    if trainer.run("--resume", run) != 0:
        raise AssertionError(f"a killed run does not go on: {trainer.output.read_text()[-2000:]}")
    return done


def campaign(kills: int, seed: int, folder: Path) -> tuple[int, list[str]]:
    """Kills done, and the runs that did not end as the one left alone."""
    draw, done = random.Random(seed), 0
    data = write_cells(folder / "cells", train=10, val=4, size=64)
    alone: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    command = [sys.executable, str(ROOT / "tests/tasks/fork_server.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdin is not None
        trainer = Trainer(server, folder / "output.txt")
        with contextlib.closing(server.stdin):
            number = 0
            while done < kills:
                kind, workers = KINDS[number % len(KINDS)], number // len(KINDS) % 2 * 2
                config = folder / f"{kind}.json"
                if kind not in alone:
                    config.write_text(experiment(kind, data).model_dump_json(), encoding="utf-8")
                    if trainer.run(config, "--out", folder / f"{kind}_alone", "--data.workers", "0") != 0:
                        raise AssertionError(trainer.output.read_text()[-2000:])
                    alone[kind] = outcome(folder / f"{kind}_alone")
                run = folder / f"{kind}_{number}"
                own = killed_run(trainer, config, run, workers, min(KILLS_A_RUN, kills - done), draw)
                done, number = done + own, number + 1
                found = outcome(run)
                parts = [part for part in alone[kind] if found.get(part) != alone[kind][part]]
                verdict = f"differs in {', '.join(parts)}" if parts else "exact"
                print(f"{kind}, {workers} workers: {own} kills, {verdict}; {done} of {kills}", flush=True)
                if parts:
                    wrong.append(f"{run.name}: {', '.join(parts)}")
    return done, wrong


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done, wrong = campaign(arguments.kills, arguments.seed, Path(folder))
    print(f"{done} kills in {time.monotonic() - begun:.0f} s; runs that did not end alike: {len(wrong)}")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
