"""A run that is killed or stopped, and resumed, ends as one that was left alone: bit for bit."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tasks.config import (
    AugmentConfig,
    CascadeRCNNConfig,
    ClassificationConfig,
    DeepLabV3PlusConfig,
    Experiment,
    OptimizerConfig,
)
from tests.conftest import SMALL_DETECTOR
from tests.tasks.launches import running

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
STEPS_PER_EPOCH, EPOCHS = 5, 24
TIMING = ("images_per_second", "data_wait", "cost")


class Trainer:
    """Starts training processes and knows the one that runs."""

    def __init__(self, server: subprocess.Popen[str], output: Path) -> None:
        self.server, self.output = server, output
        self.pid = 0

    def start(self, *arguments: str | Path) -> None:
        order = {"arguments": [str(word) for word in arguments], "output": str(self.output)}
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        self.pid = int(self.server.stdout.readline())

    def running(self) -> bool:
        """The server has not collected the process, so its id is still its own."""
        return running(self.pid)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # The exit code will tell.
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        self.pid = 0
        return int(self.server.stdout.readline())

    def run(self, *arguments: str | Path) -> int:
        self.start(*arguments)
        return self.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).with_name("fork_server.py"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server:
        yield server
        server.stdin.close()


@pytest.fixture
def trainer(server: subprocess.Popen[str], tmp_path: Path) -> Iterator[Trainer]:
    trainer = Trainer(server, tmp_path / "output.txt")
    yield trainer
    if trainer.pid:  # The test failed; the server waits for the process.
        trainer.kill()
        trainer.wait()


@pytest.fixture
def config(tiny: Experiment, tmp_path: Path) -> Path:
    """Everything that carries state from step to step is in it."""
    tiny.backbone.name, tiny.backbone.norm = "small_net", None
    tiny.optimizer.name, tiny.optimizer.lr = "adamw", 1e-3
    tiny.data.short_side = (48, 64)
    tiny.schedule.epochs, tiny.schedule.policy = EPOCHS, "cosine"
    tiny.runner.ema_decay, tiny.runner.accumulate = 0.9, 2
    # The line of every third step is a mean over steps before and after a save.
    tiny.runner.save_every_steps, tiny.runner.log_every = 2, 3
    file = tmp_path / "config.json"
    file.write_text(tiny.model_dump_json())
    return file


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """Holds what the run left alone ended with, once some test has made it."""
    return {}


def outcome(run: Path) -> dict[str, Any]:
    """All that a run ended with, but for the times it took."""
    steps = sorted(folder.name for folder in run.glob("checkpoints/step_*"))
    found: dict[str, Any] = {"steps": steps, "best": json.loads((run / "checkpoints" / "best.json").read_text())}
    for file in sorted((run / "checkpoints" / steps[-1]).glob("*.safetensors")):
        found[file.name] = {name: (value.dtype, value.tobytes()) for name, value in load_file(file).items()}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found["log"] = [{key: value for key, value in line.items() if key not in TIMING} for line in lines]
    pictures = (file for file in (run / "pictures").rglob("*") if file.is_file())
    found["pictures"] = {str(file.relative_to(run)): file.read_bytes() for file in pictures}
    return found


def expected(alone: dict[str, Any], trainer: Trainer, config: Path, tmp_path: Path) -> dict[str, Any]:
    if not alone:
        assert trainer.run(config, "--out", tmp_path / "alone") == 0, trainer.output.read_text()
        alone |= outcome(tmp_path / "alone")
        assert alone["steps"][-1] == f"step_{STEPS_PER_EPOCH * EPOCHS:08d}"
        assert len(alone["log"]) == STEPS_PER_EPOCH * EPOCHS // 3 + EPOCHS  # as 3 divides it
        assert {"model.safetensors", "ema.safetensors", "optimizer.safetensors"} <= alone.keys()
    return alone


def latest_step(run: Path) -> int:
    return max((int(folder.name[5:]) for folder in run.glob("checkpoints/step_*")), default=0)


def evaluated(run: Path) -> int:
    """The last step that an evaluation was logged of."""
    log = run / "metrics.jsonl"
    text = log.read_text() if log.exists() else ""
    return max((json.loads(line)["step"] for line in text.splitlines() if '"metrics"' in line), default=0)


def saving(run: Path) -> bool:
    return any(run.glob("checkpoints/.writing_step_*"))


def evaluating(run: Path) -> bool:
    step = latest_step(run)
    return step > 0 and step % STEPS_PER_EPOCH == 0 and evaluated(run) < step and not saving(run)


def stepping(run: Path) -> bool:
    return latest_step(run) > 0 and not saving(run) and not evaluating(run)


PHASES: dict[str, Callable[[Path], bool]] = {"save": saving, "evaluation": evaluating, "step": stepping}


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_twenty_moments(
    workers: int, trainer: Trainer, config: Path, tmp_path: Path, alone: dict[str, Any]
) -> None:
    reference = expected(alone, trainer, config, tmp_path)
    draw, run = random.Random(workers), tmp_path / "killed"
    plan = ["save"] * 5 + ["evaluation"] * 5 + ["any"] * 10
    draw.shuffle(plan)
    hit: Counter[str] = Counter()
    for kind in plan:
        fresh = [config, "--out", run, "--data.workers", str(workers)]
        trainer.start(*(["--resume", run] if latest_step(run) else fresh))
        if not latest_step(run):
            wait_until(trainer, lambda: latest_step(run) > 0)  # A run without a checkpoint cannot be resumed.
        if kind == "any":
            # A random time, but few steps however fast the machine: the run must outlast twenty kills.
            end, last = time.monotonic() + draw.uniform(0, 1.5), latest_step(run) + 4
            wait_until(trainer, lambda end=end, last=last: time.monotonic() > end or latest_step(run) >= last)
        else:
            wait_until(trainer, lambda kind=kind: PHASES[kind](run))
            time.sleep(draw.uniform(0, 0.02 if kind == "evaluation" else 0.002))
        trainer.kill()
        assert trainer.wait() == -signal.SIGKILL, f"ended before it was killed:\n{trainer.output.read_text()[-3000:]}"
        hit[next(name for name, holds in PHASES.items() if holds(run))] += 1
    assert len(plan) == 20
    assert min(hit[phase] for phase in PHASES) >= 2, hit
    assert trainer.run("--resume", run) == 0, trainer.output.read_text()[-3000:]
    compare(outcome(run), reference)


@pytest.mark.parametrize(
    ("number", "workers", "phase"),
    [
        (signal.SIGINT, 0, "step"),
        (signal.SIGINT, 2, "step"),
        (signal.SIGINT, 2, "evaluation"),
        (signal.SIGTERM, 2, "step"),
        (signal.SIGTERM, 0, "evaluation"),
    ],
)
def test_stopped(
    number: signal.Signals,
    workers: int,
    phase: str,
    trainer: Trainer,
    config: Path,
    tmp_path: Path,
    alone: dict[str, Any],
) -> None:
    reference = expected(alone, trainer, config, tmp_path)
    run = tmp_path / "stopped"
    trainer.start(config, "--out", run, "--data.workers", str(workers))
    wait_until(trainer, lambda: latest_step(run) > 5 and PHASES[phase](run))
    # Ctrl-C in a terminal reaches the loader processes too; a job scheduler's SIGTERM reaches the main one.
    (os.killpg if number == signal.SIGINT else os.kill)(trainer.pid, number)
    assert trainer.wait() == 130
    told = trainer.output.read_text()
    last = told.splitlines()[-1]
    assert "Traceback" not in told
    assert last.startswith("stopped after step ")
    assert f"python tools/train.py --resume {run}" in last
    stopped_at = int(last.split()[3])
    assert latest_step(run) == stopped_at < STEPS_PER_EPOCH * EPOCHS
    assert trainer.run(*last.split("tools/train.py ")[1].split()) == 0, trainer.output.read_text()[-3000:]
    compare(outcome(run), reference)


def test_two_signals_stop_at_once(trainer: Trainer, config: Path, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    trainer.start(config, "--out", run)
    wait_until(trainer, lambda: latest_step(run) > 0)
    for _ in range(2):
        os.kill(trainer.pid, signal.SIGINT)
        time.sleep(0.005)
    assert trainer.wait() == 130
    told = trainer.output.read_text()
    assert "Traceback" not in told
    assert told.splitlines()[-1].endswith(f"python tools/train.py --resume {run}")


def to_labels(config: Experiment) -> None:
    """Mixed images, drawn unevenly and with repeats, and a backbone that joins in later."""
    config.heads["labels"] = ClassificationConfig(dropout=0.3, hidden_channels=(16,), label_smoothing=0.1)
    config.heads["labels"].class_weights = "balanced"
    config.data.size, config.data.balance = (64, 64), 1.0
    config.data.augment = AugmentConfig(
        mixup=0.4, cutmix=1.0, policy="trivial_augment", random_resized_crop=(0.3, 1.0), erase=0.5, colour=0.3
    )
    config.optimizer = OptimizerConfig(name="sgd", lr=0.05, layer_decay=0.8, clip_grad_norm=1.0, l1=1e-4)
    config.schedule.freeze_backbone_epochs = 2


def to_masks(config: Experiment) -> None:
    """Dropout from the global generator, a second head, and images of random place, shape and colour."""
    config.heads["masks"] = DeepLabV3PlusConfig(
        decoder_channels=16, dropout=0.5, auxiliary_weight=0.4, class_weights="balanced"
    )
    config.backbone.output_stride = 16
    config.data.augment = AugmentConfig(
        crop=(48, 48), crop_padding=8, scale_jitter=(0.8, 1.3), rotate=30, elastic=0.03, quarter_turns=True,
        vertical_flip=0.5, gamma=(0.7, 1.5), blur=1.0, noise=0.05,
    )  # fmt: skip
    config.optimizer = OptimizerConfig(name="adamw", lr=1e-3)


def to_instances(config: Experiment) -> None:
    """Objects cut, turned, pasted and lost with their outlines, and samples drawn in three stages."""
    config.heads["boxes"] = CascadeRCNNConfig.model_validate(SMALL_DETECTOR)
    config.data.augment = AugmentConfig(
        crop=(48, 48), scale_jitter=(0.8, 1.3), rotate=30, vertical_flip=0.5, copy_paste=0.5, mosaic=0.4,
    )  # fmt: skip
    config.optimizer = OptimizerConfig(name="adamw", lr=1e-3)


def to_one_stage(config: Experiment) -> None:
    """Three heads that assign boxes to cells, one by what the network says; the last epochs are without mosaic."""
    config.data.augment = AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5, mosaic=0.5, close_mosaic=3)


def to_sources(config: Experiment) -> None:
    """Two data sets, drawn unevenly, three heads with learned weights, and images of random place."""
    config.data.augment = AugmentConfig(crop=(48, 48), scale_jitter=(0.8, 1.3), vertical_flip=0.5)
    config.data.sources["table"].ratio, config.data.size = 6, (64, 64)
    config.heads["masks"] = DeepLabV3PlusConfig(decoder_channels=16, dropout=0.5)
    config.backbone.output_stride = 16
    config.losses.learned = True


@pytest.mark.parametrize("kind", ["labels", "masks", "instances", "one_stage", "sources"])
def test_other_heads_killed(
    kind: str, request: pytest.FixtureRequest, trainer: Trainer, written: Callable[[Experiment], Path], tmp_path: Path
) -> None:
    """Left alone with no loader process, and killed six times with two."""
    config: Experiment = request.getfixturevalue(f"tiny_{kind}")
    config.backbone.name, config.backbone.norm = "small_net", None
    change = {
        "labels": to_labels,
        "masks": to_masks,
        "instances": to_instances,
        "one_stage": to_one_stage,
        "sources": to_sources,
    }
    change[kind](config)
    # Steps of labels take milliseconds: more of them, so that six processes are killed before the end.
    config.schedule.epochs, config.schedule.policy = 30 if kind == "labels" else 10, "cosine"
    config.runner.ema_decay, config.runner.save_every_steps, config.runner.log_every = 0.9, 2, 3
    file, run, draw = written(config), tmp_path / "killed", random.Random(kind)
    assert trainer.run(file, "--out", tmp_path / "alone") == 0, trainer.output.read_text()
    for number in range(6):
        trainer.start(*(["--resume", run] if number else [file, "--out", run, "--data.workers", "2"]))
        last = latest_step(run) + 2
        wait_until(trainer, lambda last=last: latest_step(run) >= last)
        time.sleep(draw.uniform(0, 0.1))
        trainer.kill()
        assert trainer.wait() == -signal.SIGKILL, f"ended before it was killed:\n{trainer.output.read_text()[-3000:]}"
    assert latest_step(run) < config.schedule.epochs * STEPS_PER_EPOCH
    assert trainer.run("--resume", run) == 0, trainer.output.read_text()[-3000:]
    compare(outcome(run), outcome(tmp_path / "alone"))


def wait_until(trainer: Trainer, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert trainer.running(), f"ended too early:\n{trainer.output.read_text()[-3000:]}"
        assert time.monotonic() < end, f"did not get there:\n{trainer.output.read_text()[-3000:]}"
        time.sleep(0.0005)


def compare(found: dict[str, Any], reference: dict[str, Any]) -> None:
    assert found.keys() == reference.keys()
    for part in reference:
        if part.endswith(".safetensors"):  # Named, for a difference of megabytes is no message.
            assert found[part].keys() == reference[part].keys()
            assert [name for name in reference[part] if found[part][name] != reference[part][name]] == [], part
        else:
            assert found[part] == reference[part], part
