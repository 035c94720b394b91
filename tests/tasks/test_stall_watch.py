"""Who is named when the processes of a run stand still."""

import threading
import time
from collections.abc import Callable

import pytest
from torch import distributed

from tasks.progress import Reporter
from tasks.stall_watch import DISTRIBUTED, Sign, StallWatch, stall_report


def test_the_one_that_does_not_wait_is_named() -> None:
    signs = {
        0: Sign(9, 61.2, "in backward\n", waiting=True),
        1: Sign(8, 65.0, "in read_image\n"),
        2: Sign(9, 61.0, "in backward\n", waiting=True),
    }
    assert stall_report(signs, [0, 1, 2], []).splitlines() == [
        "stalled: no process has gone on for 61 s",
        "process 1 stands here:",
        "in read_image",
        "waiting for it: processes 0, 2",
    ]


def test_one_that_gives_no_sign_is_named() -> None:
    signs = {0: Sign(9, 61.2, "in backward", waiting=True), 1: Sign(3, 0.1)}
    assert stall_report(signs, [0], [1]).splitlines()[1:] == [
        "process 1 gives no sign of life: it is stopped, or its host or network is gone",
        "waiting for it: process 0",
    ]


def test_all_stacks_where_all_wait() -> None:
    signs = {rank: Sign(9, 61.2, f"stack {rank}", waiting=True) for rank in range(2)}
    assert stall_report(signs, [0, 1], []).splitlines()[1:] == [
        *("process 0 stands here:", "stack 0", "process 1 stands here:", "stack 1")
    ]


def test_a_loop_that_stands_still_and_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two watches in one process, which share the main thread, as two processes do over a store."""
    store = distributed.HashStore()
    monkeypatch.setattr("tasks.stall_watch._get_default_store", lambda: store)
    reporters = [Reporter(False), Reporter(False)]
    with StallWatch(reporters[0], 1.5, 0, 2) as first, StallWatch(reporters[1], 1.5, 1, 2) as second:
        until(lambda: bool(first.report))
        assert "process 0 stands here" in first.report
        assert "in until" in first.report
        assert not second.report
        for _ in range(20):
            for reporter in reporters:
                list(reporter.track([0], 1, "images"))
            time.sleep(0.02)
        until(lambda: not first.report, reporters)
    assert capsys.readouterr().err.count("stalled:") >= 1
    assert not [thread for thread in threading.enumerate() if thread.name == "stall watch"]


def test_a_store_that_does_not_answer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the first process, which keeps it, is stopped: the others say so, and their end does not wait for it."""
    again = threading.Event()

    class Store(distributed.HashStore):  # type: ignore[misc]
        def check(self, keys: list[str]) -> bool:
            return again.wait(60)

    monkeypatch.setattr("tasks.stall_watch.PrefixStore", lambda prefix, store: store)
    monkeypatch.setattr("tasks.stall_watch._get_default_store", Store)
    try:
        with StallWatch(Reporter(False), 0.5, 1, 3) as watch, StallWatch(Reporter(False), 0.5, 2, 3) as third:
            until(lambda: bool(watch.report))
            begun = time.monotonic()
        assert time.monotonic() - begun < 10
    finally:
        again.set()
    said = capsys.readouterr().err
    assert "process 0 gives no sign of life" in said
    assert not third.report


def test_one_process_needs_no_watch() -> None:
    with StallWatch(Reporter(False), 0.01, 0, 1):
        assert not [thread for thread in threading.enumerate() if thread.name == "stall watch"]


def until(holds: object, reporters: list[Reporter] | None = None) -> None:
    end = time.monotonic() + 20
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        for reporter in reporters or []:
            list(reporter.track([0], 1, "images"))
        time.sleep(0.02)


def test_what_torch_distributed_calls_waits() -> None:
    """Gathering weights that are divided ends deep in functions of no particular name."""
    named: dict[str, Callable[[Callable[[], Sign]], Sign]] = {}
    exec(compile("def gather(call):\n return call()", DISTRIBUTED + "collectives.py", "exec"), named)
    watch = StallWatch(Reporter(False), 0.0, 0, 2)
    assert named["gather"](watch._sign).waiting
    assert not watch._sign().waiting
