"""How sure a metric is: it is measured again on images drawn from the same ones, with repetition (Efron 1979).

The interval is that between percentiles of these values. It tells what other images of the same kind would have given;
it does not tell what another seed would have.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.int64]  # (I,), how often each image was drawn
Floats = npt.NDArray[np.float64]
Measure = Callable[[Weights], Mapping[str, float]]
CONFIDENCE = 0.95
SEED = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a metric lies with `CONFIDENCE`.

    Attributes:
        low: lower end.
        high: upper end.
        count: of the draws in which it could be measured.
    """

    low: float
    high: float
    count: int


def draws(images: int, count: int, seed: int = SEED) -> Iterator[Weights]:
    """`count` times, how often each of `images` is among as many drawn with repetition; the same for the same seed."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield np.bincount(random.integers(images, size=images), minlength=images)


def distribution(measure: Measure, images: int, count: int, seed: int = SEED) -> dict[str, Floats]:
    """(R,) values of each metric, NaN where a draw had nothing to measure it on.

    Args:
        measure: metrics, by name, of images that are there so many times; -1 where nothing can be measured.
        images: I.
        count: R, of draws.
        seed: of the draws.
    """
    rows = [measure(weights) for weights in draws(images, count, seed)]
    named = {name: np.array([row[name] for row in rows], np.float64) for name in (rows[0] if rows else ())}
    return {name: np.where(values == -1, np.nan, values) for name, values in named.items()}


def interval(values: Floats) -> Interval | None:
    """The percentiles of a distribution; None where fewer than half of the draws, or fewer than 20, could be measured.

    A class that is in so few images that most draws miss it has no interval worth telling.
    """
    known = values[~np.isnan(values)]
    if len(known) < max(20, len(values) / 2):
        return None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high), len(known))
