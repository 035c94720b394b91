"""The time that a check may take."""

import time


class Clock:
    """Counts down.

    Args:
        seconds: to the end.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds to the end, 0 once it is reached."""
        return max(0.0, self._end - time.monotonic())

    def portion(self, share: float) -> "Clock":
        """A clock that ends after `share` of all the time, or with this one."""
        return Clock(min(share * self.seconds, self.left()))
