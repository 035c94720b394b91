"""The command line, called in this process."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState, PartialState

from tasks.cli import COMMANDS, run
from tasks.config import Experiment


@dataclass
class Said:
    """What a command said.

    Attributes:
        code: its exit code.
        out: what it printed.
        error: what it printed to stderr.
    """

    code: int
    out: str
    error: str

    @property
    def complaint(self) -> str:
        """The one line that a mistake of the user's gives."""
        assert self.code == 2, (self.code, self.out, self.error)
        assert self.error.startswith("error: "), self.error
        assert self.error.count("\n") == 1, self.error
        assert "Traceback" not in self.out
        return self.error.removeprefix("error: ").rstrip("\n")


Command = Callable[..., Said]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`command("train", "config.json", "--out", folder)`."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(name: str, *arguments: str | Path) -> Said:
        capsys.readouterr()
        # accelerate keeps device and precision for the life of a process, and each command stands for one.
        AcceleratorState._reset_state(True)
        code = run(COMMANDS[name], [str(word) for word in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    yield call
    AcceleratorState._reset_state(True)
    PartialState._reset_state()


@pytest.fixture
def tiny_config(tiny: Experiment, tmp_path: Path) -> Path:
    """`tiny` as a file."""
    file = tmp_path / "tiny.json"
    file.write_text(tiny.model_dump_json())
    return file


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"folder": tmp_path_factory.mktemp("trained") / "run"}


@pytest.fixture
def trained(_trained: dict[str, Path], tiny_config: Path, command: Command) -> Path:
    """A run of `tiny`, trained once for all tests: not to be written to."""
    if not _trained["folder"].exists():
        said = command("train", tiny_config, "--out", _trained["folder"])
        assert said.code == 0, said.error
    return _trained["folder"]


@pytest.fixture
def copied_data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set, to be spoiled."""
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


@pytest.fixture
def edit(copied_data: Path) -> Callable[[Callable[[Any], object]], Path]:
    """`edit(change)`: calls `change` with the training annotations of `copied_data` and writes them back."""
    file = copied_data / "annotations" / "instances_train.json"

    def apply(change: Callable[[Any], object]) -> Path:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        return copied_data

    return apply
