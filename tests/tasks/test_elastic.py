"""Processes lost, stopped and cut off from each other: what a run of several does then."""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accelerate.accelerator import Accelerator
from safetensors.numpy import load_file

from backbones import UserError
from tasks.config import Experiment, RunnerConfig
from tasks.elastic import run_begun_before_restart
from tests.tasks.hosts import Hosts
from tests.tasks.launches import RESTARTS, STANDALONE, Launch
from tests.tasks.test_resume import latest_step

Command = Callable[..., object]


def weights(run: Path) -> dict[str, bytes]:
    """All that the run ended with, as bytes."""
    folder = run / "checkpoints" / f"step_{latest_step(run):08d}"
    tensors = {file.name: load_file(file) for file in sorted(folder.glob("*.safetensors"))}
    return {f"{file}/{name}": value.tobytes() for file, values in tensors.items() for name, value in values.items()}


@pytest.fixture
def config(tiny: Experiment, tmp_path: Path) -> Path:
    tiny.data.batch_size = 4
    tiny.optimizer.lr = 0.001
    tiny.schedule.epochs = 20
    tiny.runner.ema_decay, tiny.runner.save_every_steps, tiny.runner.evaluate_every = 0.9, 2, 10
    file = tmp_path / "config.json"
    file.write_text(tiny.model_dump_json())
    return file


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launch]]:
    launches: list[Launch] = []

    def start(*arguments: str | Path, **options: object) -> Launch:
        options = {"options": STANDALONE, **options}
        launches.append(Launch(arguments, output=tmp_path / f"output_{len(launches)}.txt", **options))  # type: ignore[arg-type]
        return launches[-1]

    yield start
    for one in launches:
        one.kill()


@pytest.mark.parametrize(
    "more", [pytest.param((), marks=pytest.mark.slow), pytest.param(("--runner.shard",), marks=pytest.mark.measurement)]
)
def test_a_process_killed_twice(
    more: tuple[str, ...], config: Path, launch: Callable[..., Launch], tmp_path: Path
) -> None:
    alone = launch(config, "--out", tmp_path / "alone", *more)
    assert alone.end() == 0, alone.said()
    run, draw = tmp_path / "killed", random.Random(0)
    killed = launch(config, "--out", run, *more, options=("--max_restarts", "3", *STANDALONE), environment=RESTARTS)
    for rank in (1, 0):
        last = latest_step(run) + 4
        killed.wait_until(lambda last=last: latest_step(run) >= last)
        killed.wait_until(lambda: draw.random() < 0.3)
        os.kill(killed.pid(rank), signal.SIGKILL)
        killed.wait_until(lambda rank=rank: killed.said().count("resumed after step") == 2 - rank)
    assert killed.end() == 0, killed.said()
    assert latest_step(run) == latest_step(tmp_path / "alone")
    assert weights(run) == weights(tmp_path / "alone")


@pytest.mark.slow
def test_a_process_that_is_stopped_is_reported(config: Path, launch: Callable[..., Launch], tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopped = launch(config, "--out", run, "--runner.stall_seconds", "3")
    stopped.wait_until(lambda: latest_step(run) >= 4)
    os.kill(stopped.pid(1), signal.SIGSTOP)
    stopped.wait_until(lambda: "stalled:" in stopped.said(), 30)
    stopped.wait_until(lambda: "waiting for it: process 0" in stopped.said(), 5)
    assert "process 1 gives no sign of life" in stopped.said()
    os.kill(stopped.pid(1), signal.SIGCONT)
    assert stopped.end() == 0, stopped.said()  # It was not given up yet.


@pytest.mark.slow
def test_the_first_process_is_stopped_for_ever(config: Path, launch: Callable[..., Launch], tmp_path: Path) -> None:
    """The store by which processes find each other is gone with it; the other one gives it up all the same."""
    run = tmp_path / "run"
    words = (config, "--out", run, "--runner.stall_seconds", "3", "--schedule.epochs", "8")
    stopped = launch(*words, options=("--max_restarts", "1", *STANDALONE), environment=RESTARTS)
    stopped.wait_until(lambda: latest_step(run) >= 4)
    os.kill(stopped.pid(0), signal.SIGSTOP)
    stopped.wait_until(lambda: "process 0 gives no sign of life" in stopped.said(), 60)
    stopped.wait_until(lambda: "resumed after step" in stopped.said())
    assert stopped.end() == 0, stopped.said()


@pytest.fixture
def two_hosts() -> Iterator[Hosts]:
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    with Hosts() as hosts:
        yield hosts


@pytest.mark.slow
@pytest.mark.parametrize("long", [False, True])
def test_two_hosts_and_a_network_that_goes_away(
    long: bool, config: Path, launch: Callable[..., Launch], tmp_path: Path, two_hosts: Hosts
) -> None:
    """A short cut is waited for; after a long one, processes that gave each other up are started again."""
    alone = launch(config, "--out", tmp_path / "alone")
    assert alone.end() == 0, alone.said()
    run = tmp_path / "hosts"
    words = (config, "--out", run, "--runner.stall_seconds", "2")
    hosts = [two_hosts.launch(number, words, tmp_path / f"host_{number}.txt", restarts=5) for number in (0, 1)]
    try:
        hosts[0].wait_until(lambda: latest_step(run) >= 6)
        two_hosts.cut()
        hosts[0].wait_until(lambda: "stalled:" in hosts[0].said() + hosts[1].said(), 60)
        if long:
            hosts[0].wait_until(lambda: "failed (exitcode" in hosts[0].said(), 60)
        two_hosts.join()
        codes = [host.end() for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    assert codes == [0, 0], hosts[0].said() + hosts[1].said()
    assert ("resumed after step" in hosts[0].said() + hosts[1].said()) == long
    assert weights(run) == weights(tmp_path / "alone")


def test_hosts_wait_for_each_other_as_long_as_processes_do() -> None:
    """The command of the docs: torchrun would end after a minute without network, long before its processes do."""
    page = Path(__file__).resolve().parents[2] / "docs" / "several_processes.md"
    commands = [block for block in page.read_text().split("```") if "--rdzv_endpoint" in block]
    assert commands
    for command in commands:
        assert f"read_timeout={3 * RunnerConfig().stall_seconds:.0f} " in command


def test_restarts_need_a_folder(
    tiny_config: Path, command: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    assert "give its folder with --out" in command("train", tiny_config).complaint  # type: ignore[attr-defined]


def test_restarts_need_stores_of_their_own(
    tiny_config: Path, command: Callable[..., object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    said = command("train", tiny_config, "--out", tmp_path / "run")
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in said.complaint  # type: ignore[attr-defined]


def test_what_a_restart_finds(
    tiny: Experiment, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """The run begun, an empty start, or a run of another config, which is refused."""
    accelerator, out = Accelerator(cpu=True), tmp_path / "run"
    begun = Experiment.model_validate_json((trained / "config.json").read_text())
    assert run_begun_before_restart(begun, trained, accelerator) is None  # without restarts
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    assert run_begun_before_restart(begun, out, accelerator) is None
    assert run_begun_before_restart(begun, trained, accelerator) == trained

    # Begun by a version without a field that has its default now; or by one with a field that is none any more.
    older = Path(shutil.copytree(trained, tmp_path / "older"))
    written = json.loads((older / "config.json").read_text())
    del written["runner"]["shard"]
    (older / "config.json").write_text(json.dumps(written))
    assert run_begun_before_restart(begun, older, accelerator) == older
    written["runner"]["shards"] = True
    (older / "config.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match=r"config.json: not a config of this version"):
        run_begun_before_restart(begun, older, accelerator)

    (out / "checkpoints").mkdir(parents=True)
    (out / "config.json").write_text(json.dumps({}))
    assert run_begun_before_restart(begun, out, accelerator) is None
    assert not out.exists()

    begun.optimizer.lr = 0.5
    with pytest.raises(UserError, match=r"another config \(other: optimizer\)"):
        run_begun_before_restart(begun, trained, accelerator)
