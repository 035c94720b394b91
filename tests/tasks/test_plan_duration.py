"""What a plan says of its time: by the steps it has, and by what one of them takes here."""

import pytest

from tasks.config import ClassificationConfig, DataConfig, Experiment, RunnerConfig, ScheduleConfig, UNetConfig
from tasks.data_config import AugmentConfig
from tasks.plan_duration import training_time
from tasks.step_time import StepTime

CPU = RunnerConfig(device="cpu", precision="fp32")


def experiment(head: ClassificationConfig | UNetConfig, data: DataConfig, epochs: int) -> Experiment:
    return Experiment(heads={"head": head}, data=data, schedule=ScheduleConfig(epochs=epochs), runner=CPU)


def test_a_short_training_is_only_timed() -> None:
    said = training_time(experiment(ClassificationConfig(), DataConfig(size=(64, 64), batch_size=4), 2), 3, 43)
    assert said.startswith("20 steps take at least ")
    assert said.endswith("fp32, 1 process")


def test_a_long_one_comes_with_a_shorter_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepTime, "__call__", lambda self, batch, images: 2.5 * images)
    whole = DataConfig(short_side=(96,), long_side=128, batch_size=4)
    said = training_time(experiment(UNetConfig(), whole, 40), 3, 400)
    assert said.startswith("4,000 steps take at least 11:06:40 h on cpu (")
    assert said.endswith(
        "--schedule.epochs 10 takes a quarter, with --data.short_side 48 --data.long_side 64 a quarter of that again"
    )
    said = training_time(experiment(ClassificationConfig(), DataConfig(size=(64, 96), batch_size=4), 40), 3, 400)
    assert said.endswith("takes a quarter, with --data.size 32 48 a quarter of that again")
    crops = DataConfig(short_side=(900,), batch_size=4, augment=AugmentConfig(crop=(64, 64)))
    assert training_time(experiment(UNetConfig(), crops, 40), 3, 400).endswith("--schedule.epochs 10 takes a quarter")
