"""Each client has a bucket of its own, which fills at the rate."""

import pytest

from tasks.serving import rate_limit
from tasks.serving.rate_limit import RateLimit
from tasks.serving.refusal import Refusal


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def taken(limit: RateLimit, client: str, times: int) -> int:
    """How many of so many images are let through."""
    count = 0
    for _ in range(times):
        try:
            limit.take(client)
        except Refusal:
            continue
        count += 1
    return count


def test_bucket_fills_at_the_rate() -> None:
    clock = Clock()
    limit = RateLimit(30, clock)
    assert taken(limit, "a", 40) == 30
    assert taken(limit, "b", 1) == 1
    clock.now += 4.1  # two images at 30 a minute
    assert taken(limit, "a", 10) == 2
    clock.now += 1e6
    assert taken(limit, "a", 40) == 30
    with pytest.raises(Refusal) as refused:
        limit.take("a")
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "2"})


def test_no_limit_and_few_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken(RateLimit(0), "a", 1000) == 1000
    monkeypatch.setattr(rate_limit, "MOST_CLIENTS", 3)
    limit = RateLimit(5, Clock())
    for client in "abcde":
        limit.take(client)
    assert list(limit._left) == ["c", "d", "e"]
