"""As many loader processes as keep up, and the same run whatever they are."""

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from pydantic import ValidationError

from backbones.errors import UserError
from tasks.config import DataConfig, Experiment
from tasks.data import worker_count
from tasks.data.dataset import Dataset
from tasks.data.formats.coco import CocoFolder
from tasks.data.loader import TrainingLoader, evaluation_loader
from tasks.data.sample import Batch, Sample, SampleKey
from tasks.data.worker_count import cores_here, measure_workers, needed_workers
from tasks.image_spec import ImageSpec
from tests.conftest import Command

CONFIG = DataConfig(short_side=(32,), long_side=64, batch_size=4)


class Clock:
    """Time that passes when an image is loaded."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Slow(Dataset):
    """An image takes as long as the clock is told; the first one ten times as long."""

    clock, seconds = Clock(), 0.0
    threads: list[tuple[int, int]]

    def __getitem__(self, key: SampleKey) -> Sample:
        self.clock.now += self.seconds * (1 if self.threads else 10)
        self.threads.append((torch.get_num_threads(), cv2.getNumThreads()))
        return super().__getitem__(key)


@pytest.mark.parametrize(
    ("load", "step", "images", "cores", "workers"),
    [
        (0.01, 1.0, 8, 16, 1),
        (0.1, 1.0, 8, 16, 1),  # 0.8 s and a reserve of a quarter
        (0.11, 1.0, 8, 16, 2),
        (0.1, 0.1, 8, 16, 10),
        (0.1, 0.1, 8, 4, 4),
        (0.1, 0.0, 8, 4, 4),
        (0.0, 0.1, 8, 4, 1),
    ],
)
def test_how_many_are_needed(load: float, step: float, images: int, cores: int, workers: int) -> None:
    assert needed_workers(load, step, images, cores) == workers


@pytest.mark.parametrize(("seconds", "loaded"), [(0.02, 9), (0.3, 5), (2.0, 2)])
def test_a_few_images_are_timed(tiny_data: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, loaded: int) -> None:
    """Without the first, which pays for imports; 8 at most, and no more once a second has passed."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    dataset = Slow(CocoFolder(tiny_data).read("train"), CONFIG, ImageSpec(), training=True)
    dataset.clock, dataset.seconds, dataset.threads = Clock(), seconds, []
    monkeypatch.setattr(worker_count, "time", dataset.clock)
    given: list[tuple[int, int]] = []

    def budget(batch: Batch, images: int) -> float:
        given.append((len(batch), images))
        return 11 * seconds

    count = measure_workers(dataset, [SampleKey(index, 0) for index in range(10)] * 4, 32, budget, cores=16)
    assert dataset.threads == [before] + [(1, 1)] * (loaded - 1), "as in a worker"
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before
    assert given == [(loaded, 40)]
    assert count.load == pytest.approx(seconds)
    assert count.workers == 5  # 40 images in the time of 11, with a reserve of a quarter
    assert f"data.workers auto: 5 of 16 cores; an image takes {1000 * seconds:.1f} ms to load" in str(count)


def test_when_the_cores_are_not_enough(tiny_data: Path) -> None:
    dataset = Dataset(CocoFolder(tiny_data).read("train"), CONFIG, ImageSpec(), training=True)
    count = measure_workers(dataset, [SampleKey(0, 0)], 32, lambda batch, images: 1e-9, cores=2)
    assert count.workers == 2
    assert "2 of 2 cores, which may not be enough;" in str(count)


def test_only_auto_is_measured(tiny_data: Path) -> None:
    split = CocoFolder(tiny_data).read("train")

    def budget(batch: Batch, images: int) -> float:
        assert images == 4
        return 1e9

    def loader(workers: Any, **options: Any) -> TrainingLoader:
        config = CONFIG.model_copy(update={"workers": workers})
        return TrainingLoader(split, config, ImageSpec(), seed=0, divisor=32, **options)

    measured = loader("auto", budget=budget).worker_count
    assert measured is not None
    assert measured.workers == 1
    assert measured.cores == cores_here()
    for workers, options in ((1, {"budget": budget}), ("auto", {})):
        assert loader(workers, **options).worker_count is None
    for given, used in ((None, min(4, cores_here())), (0, 0), (1, 1)):
        assert evaluation_loader(split, CONFIG, ImageSpec(), divisor=32, workers=given)._loader.num_workers == used


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = cores_here()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores_here() == max(alone // 2, 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert cores_here() == 1


def test_a_damaged_image_is_told(tiny_data: Path, copied_data: Path) -> None:
    split = CocoFolder(copied_data).read("train")
    split.file(0).write_bytes(b"")
    dataset = Dataset(split, CONFIG, ImageSpec(), training=True)
    with pytest.raises(UserError, match="the file is empty"):
        measure_workers(dataset, [SampleKey(0, 0)], 32, lambda batch, images: 1.0, cores=2)


def test_a_measured_run_ends_as_any_other(tiny: Experiment, written: Any, command: Command, tmp_path: Path) -> None:
    """The count is printed; it does not travel with the run, whose weights are those of a run without it."""
    ends = {}
    for workers in (0, "auto"):
        tiny.data.workers = workers  # type: ignore[assignment]
        said = command("train", written(tiny), "--out", tmp_path / str(workers))
        assert said.code == 0, said.error
        assert ("data.workers auto: " in said.out) is (workers == "auto")
        folder = next((tmp_path / str(workers) / "checkpoints").glob("step_*"))
        ends[workers] = {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
    assert ends[0] == ends["auto"]
    assert Experiment.model_validate_json((tmp_path / "auto" / "config.json").read_text()).data.workers == "auto"


def test_no_number(tiny: Experiment, tiny_config: Path, written: Any, command: Command) -> None:
    assert (
        "--data.workers: no type matching INT|{auto}"
        in command("train", tiny_config, "--data.workers", "many").complaint
    )
    told = "is no number of processes; expected 0 or more, or auto"
    assert command("train", tiny_config, "--data.workers", "-1").complaint == f"data.workers: -1 {told}"
    tiny_config.write_text(tiny.model_dump_json().replace('"workers":0', '"workers":"many"'))
    assert command("train", tiny_config).complaint == f"{tiny_config}: data.workers: 'many' {told}"
    with pytest.raises(ValidationError, match=told):
        DataConfig(workers=1.5)  # type: ignore[arg-type]
