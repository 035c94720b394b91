"""Turns, medians and spreads."""

import pytest

from tasks.benchmark.timing import Timing, disturbed, interleave
from tasks.progress import Reporter


def test_contestants_take_turns_and_warm_up() -> None:
    called: list[str] = []
    timings = interleave({name: lambda name=name: called.append(name) for name in "ab"}, 3, 1, Reporter(False))
    assert called == ["a", "b"] * 4
    assert {name: len(timing.seconds) for name, timing in timings.items()} == {"a": 3, "b": 3}
    assert all(second >= 0 for timing in timings.values() for second in timing.seconds)


def test_one_slow_run_moves_neither_median_nor_spread_much() -> None:
    timing = Timing((1.0, 1.1, 0.9, 1.0, 9.0))
    assert timing.median == 1.0
    assert timing.spread == pytest.approx(0.05)
    assert Timing((2.0,)).spread == 0.0
    assert timing.least == 0.9


def test_runs_that_differ_much_are_named() -> None:
    timings = {"calm": Timing((1.0, 1.05, 0.95)), "shaken": Timing((1.0, 1.5, 1.0, 1.5))}
    (line,) = disturbed(timings)
    assert "shaken (20%)" in line
    assert "calm" not in line
    assert disturbed({"calm": timings["calm"]}) == []
