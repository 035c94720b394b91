"""The run folder: never one in use, and a log that a crash cannot spoil."""

import json
from pathlib import Path

import pytest

from backbones import UserError
from tasks.config import Experiment
from tasks.run_folder import RunFolder

LINES = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "epoch": 1, "metrics": {"boxes/AP": 0.1}}]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(Experiment(name="x"), tmp_path / "run")
    for line in LINES:
        folder.log(line)
    return folder


def test_log_is_read_back(folder: RunFolder) -> None:
    assert folder.records() == LINES
    assert folder.evaluations() == LINES[2:]
    assert Experiment.model_validate_json(folder.config.read_text()) == Experiment(name="x")


def test_line_cut_off_at_any_byte_is_left_out_and_mended(folder: RunFolder) -> None:
    whole = folder.metrics.read_bytes()
    third = whole.rindex(b"\n", 0, -1) + 1
    for end in range(third, len(whole) - 1):
        folder.metrics.write_bytes(whole[:end])
        assert folder.records() == LINES[:2]
        folder.rewind(2)
        folder.log(LINES[2])
        assert folder.metrics.read_bytes() == whole


def test_bytes_that_a_power_cut_left(folder: RunFolder) -> None:
    with folder.metrics.open("ab") as file:
        file.write(b"\0" * 100)
    assert folder.records() == LINES
    folder.rewind(1)
    assert [json.loads(line) for line in folder.metrics.read_text().splitlines()] == LINES[:1]


def test_rewind_without_a_log(tmp_path: Path) -> None:
    folder = RunFolder.create(Experiment(), tmp_path / "run")
    folder.rewind(0)
    assert folder.records() == []


def test_names_count_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [RunFolder.create(Experiment(name="x"), None).path for _ in range(3)]
    assert paths == [Path("runs/x"), Path("runs/x-2"), Path("runs/x-3")]
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(Experiment(), Path("empty")).path == Path("empty")


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run: cannot write the run folder \(Not a directory\)"):
        RunFolder.create(Experiment(), tmp_path / "file" / "run")


def test_begun_in_vain(folder: RunFolder) -> None:
    """Only what a run has written before its first checkpoint may be thrown away."""
    assert folder.begun_in_vain()
    for name in ("thesis.txt", "checkpoints/step_00000003"):
        other = folder.path / name
        other.mkdir()
        assert not folder.begun_in_vain()
        other.rmdir()
    folder.checkpoints.rmdir()
    assert not folder.begun_in_vain(), "it need not be a run at all"
    assert not RunFolder(folder.path / "nowhere").begun_in_vain()
