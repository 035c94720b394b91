"""Ctrl-C and SIGTERM while a run trains: it ends after its step, saved."""

import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from tasks.progress import Reporter


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (Ctrl-C, SIGTERM) and has saved itself; the message tells how to go on."""


class StopSignals:
    """Notes the first signal for the loop to see, and lets a second one end the run at once.

    Args:
        run: its folder, for the messages.
        reporter: tells the user that the signal was heard.

    Attributes:
        asked: whether to stop after this step.
        at_once: while set, as in an evaluation, which a resumed run does again, the first signal ends the run with
            this message.
    """

    def __init__(self, run: Path, reporter: Reporter) -> None:
        self.reporter = reporter
        self.resume = f"go on with: python tools/train.py --resume {run}"
        self.asked, self.at_once = False, ""

    def __enter__(self) -> Self:
        # Signals are for the main thread; in another, as under Ray, whoever started it hears them.
        heard = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        self._before = {number: signal.signal(number, self._hear) for number in heard}
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._told_elsewhere
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if not self.asked:  # else the process is about to end, and what it was doing is torn down later still
            sys.unraisablehook = self._unraisable

    def _told_elsewhere(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """A signal may be heard in a destructor, or leave an object half made whose destructor fails: both are no news
        where the run was asked to stop, which it does after its step at the latest.
        """
        if not self.asked:
            self._unraisable(unraisable)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt(f"stopped; {self.resume}")
        self.asked = True
        if self.at_once:
            raise Interrupted(self.at_once)
        self.reporter.say("stopping after this step; once more to stop at once")
