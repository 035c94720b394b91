"""Runs of several contestants in turn, so that what else the machine does falls on all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks.progress import Reporter

DISTURBED = 0.1


@dataclass(frozen=True, slots=True)
class Timing:
    """What the runs of one contestant took.

    Attributes:
        seconds: of each run, in order.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The run in the middle."""
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        """The fastest run: what others on the machine slowed down least."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median; 0 of fewer than 2 runs."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / 2 / self.median


def interleave(
    contestants: Mapping[str, Callable[[], object]], runs: int, warmup: int, reporter: Reporter
) -> dict[str, Timing]:
    """Call each contestant `warmup` times, then `runs` times by the clock: A B C A B C ...

    Args:
        contestants: by name.
        runs: timed calls of each.
        warmup: calls before those.
        reporter: shows progress.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    rounds = [(name, timed) for timed in (False,) * warmup + (True,) * runs for name in contestants]
    for name, timed in reporter.track(rounds, len(rounds), "runs"):
        start = time.perf_counter()
        contestants[name]()
        if timed:
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(each)) for name, each in seconds.items()}


def disturbed(timings: Mapping[str, Timing]) -> list[str]:
    """A line that names the contestants whose runs differ so much that their figures should not be quoted, if any."""
    named = [f"{name} ({each.spread:.0%})" for name, each in timings.items() if each.spread > DISTURBED]
    return [f"disturbed, spread above {DISTURBED:.0%}: {', '.join(named)}; measure again"] if named else []
