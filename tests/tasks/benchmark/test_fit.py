"""The search for the largest batch."""

import json
from pathlib import Path

import pytest
import torch

from tasks.benchmark import fit
from tasks.benchmark.fit import MOST, PRECISION, Trial, search


@pytest.mark.parametrize("first", [1, 5, 64])
@pytest.mark.parametrize("capacity", [1, 2, 3, 31, 100, 1000])
def test_the_largest_that_fits_is_found(capacity: int, first: int) -> None:
    tried: list[int] = []

    def attempt(images: int) -> Trial | None:
        tried.append(images)
        return Trial(images, images << 20, 1.0) if images <= capacity else None

    found = search(attempt, first)
    assert found.largest is not None
    assert found.too_many is not None
    assert found.largest.images <= capacity < found.too_many
    assert found.too_many - found.largest.images <= max(1, found.largest.images // PRECISION)
    assert found.trials == len(tried) == len(set(tried)) <= 16
    if first == 1:
        assert tried[:2] == [1, 2]


def test_nothing_or_everything_fits() -> None:
    found = search(lambda images: None, 8)
    assert (found.largest, found.too_many) == (None, 1)
    found = search(lambda images: Trial(images, 1, 1.0), 1)
    assert found.too_many is None
    assert found.largest is not None
    assert found.largest.images == MOST


@pytest.mark.slow
def test_checkpointing_makes_room(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "PRECISION", 4)  # within a quarter, which takes fewer trials
    out = tmp_path / "fit.json"
    said = command(
        *("benchmark", "fit", "--workload", "cifar", "--memory-limit", "1500MB", "--batch", "256", "--runs", "1"),
        *("--out", out),
    )
    assert said.code == 0, said.error
    (table,) = json.loads(out.read_text())["tables"]
    plain, checkpointed = table["rows"]
    assert (plain["activation_checkpointing"], checkpointed["activation_checkpointing"]) == (False, True)
    assert 0 < plain["batch"] < checkpointed["batch"] < checkpointed["too_many"]
    for row in table["rows"]:
        assert row["batch"] < row["too_many"]
        assert row["peak_bytes"] <= row["limit_bytes"] == 1_500_000_000
        assert row["images_per_second"] > 0


@pytest.mark.slow
def test_a_config_is_tried_with_its_own_data(command, tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "PRECISION", 1)
    said = command(
        "benchmark", "fit", "--config", tiny_config, "--memory-limit", "1GiB", "--batch", "16", "--runs", "1"
    )
    assert said.code == 0, said.error
    assert "batch 16: " in said.out
    assert "1,024 MiB of main memory" in said.out


def test_a_gpu_that_is_full_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def build(self, images: int, folder: Path, checkpointing: bool) -> None:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(fit, "end_above", lambda limit: None)
    assert fit.train_within(Full(), 4, 1 << 30, 2, False) is None
