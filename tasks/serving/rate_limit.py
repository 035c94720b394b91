"""How many images a client may send: a token bucket each (RFC 2697 has the idea, for packets)."""

import math
import time
from collections.abc import Callable

from tasks.serving.refusal import Refusal

MOST_CLIENTS = 10_000  # remembered at once


class RateLimit:
    """Lets each client send `rate` images at once, and then as many a minute.

    Args:
        rate: images a minute; 0 for any number.
        clock: seconds that never go back.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._left: dict[str, tuple[float, float]] = {}  # tokens, and when that was

    def take(self, client: str) -> None:
        """Count an image of a client.

        Raises:
            Refusal: 429, it has sent too many.
        """
        if not self.rate:
            return
        now = self._clock()
        tokens, before = self._left.pop(client, (float(self.rate), now))
        tokens = min(self.rate, tokens + (now - before) * self.rate / 60)
        if tokens < 1:
            self._left[client] = (tokens, now)
            wait = math.ceil((1 - tokens) * 60 / self.rate)
            raise Refusal(
                429, f"more than {self.rate} images a minute; expected fewer: wait {wait} s", "client", retry_after=wait
            )
        self._left[client] = (tokens - 1, now)
        if len(self._left) > MOST_CLIENTS:  # the one that was quiet longest comes first, as each is put in anew
            self._left.pop(next(iter(self._left)))
