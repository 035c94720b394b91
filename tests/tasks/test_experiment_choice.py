"""An experiment that contradicts what the command line asks for is refused."""

import pytest

from backbones import UserError
from tasks.config import ScheduleConfig
from tasks.experiment_choice import _require_one_unit


@pytest.mark.parametrize(
    ("before", "after", "argv", "told"),
    [
        ({}, {"steps": 9}, ["--schedule.steps=9"], "are 8 11 epochs and would now be steps"),
        (
            {"steps": 9},
            {"steps": None},
            ["--schedule.steps", "None"],
            "are 8 11 steps and would now be epochs",
        ),
        ({"steps": 9}, {"steps": 9, "epochs": 3}, ["--schedule.epochs", "3"], "give --schedule.steps N"),
        ({"steps": 9}, {"steps": 12}, ["--schedule.steps", "12"], None),
        ({}, {"steps": 9, "policy": "cosine"}, ["--schedule.steps", "9"], None),
        ({}, {"steps": 9, "milestones": (4,)}, ["--schedule.steps", "9", "--schedule.milestones", "4"], None),
        ({}, {"epochs": 3}, ["--schedule.epochs", "3"], None),
        ({}, {"warmup_factor": 0.1, "warmup_steps": 0}, ["--schedule.warmup_factor", "0.1"], "nothing warms up"),
        ({}, {"warmup_factor": 0.1, "warmup_steps": 4}, ["--schedule.warmup_factor", "0.1"], None),
    ],
)
def test_a_schedule_counts_in_one_unit(
    before: dict[str, object], after: dict[str, object], argv: list[str], told: str | None
) -> None:
    base, now = ScheduleConfig.model_validate(before), ScheduleConfig.model_validate(after)
    if told is None:
        _require_one_unit(now, base, argv)
        return
    with pytest.raises(UserError) as caught:
        _require_one_unit(now, base, argv)
    assert told in str(caught.value)
