"""Two models on the same images: by how much one is better, and how sure that is.

A paired bootstrap: each draw takes the same images for both, so that what is hard for both of them does not blur the
difference (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 16).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.image_results import ImageResults
from tasks.report.measures import measure_of, scored_images
from tasks.report.metric_names import spelled
from tasks.report.numbers import metric
from tasks.report.resampling import CONFIDENCE, Floats, Weights, distribution, interval

SURE = 0.975  # probability from which on one is called better, so that the interval leaves out 0


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one metric, of a run less the first.

    Attributes:
        metric: its name.
        before: of the first run.
        after: of the other.
        low: lower end of the interval of the difference; NaN where it could not be measured in most draws.
        high: upper end.
        better: probability that the other is better, ties counted half; NaN likewise.
        lower: the metric is better when lower.
    """

    metric: str
    before: float
    after: float
    low: float
    high: float
    better: float
    lower: bool

    @property
    def value(self) -> float:
        """The difference itself."""
        return self.after - self.before


def require_same_images(first: ImageResults, other: ImageResults, names: tuple[str, str]) -> None:
    """Raise `UserError` when results are not of the same images with the same annotations and classes.

    Args:
        first: of a run.
        other: of another.
        names: of the two runs, for the message.
    """
    a, b = names
    boxes = {"boxes", "instances"}
    if first.kind != other.kind and {first.kind, other.kind} != boxes:
        raise UserError(f"{b}: predicts {other.kind}, and {a} {first.kind}; expected runs of one task")
    if first.labels != other.labels:
        raise UserError(f"{b}: its classes are {other.labels}; those of {a} are {first.labels}; expected the same")
    if first.options != other.options:
        raise UserError(f"{b}: is scored as {other.options}, and {a} as {first.options}; expected the same")
    mine, theirs = scored_images(first), scored_images(other)
    if odd := sorted(set(mine) ^ set(theirs)):
        raise UserError(
            f"{b}: was scored on {len(theirs)} images and {a} on {len(mine)}; {odd[0]} ({len(odd)} such) is not among "
            "both; expected runs that were scored on the same images: see data.val"
        )
    if not _same_truth(first, other):
        raise UserError(
            f"{b}: the annotations of its images are not those of {a}; expected the same annotations: evaluate both on "
            "the data as they are now, by deleting the folder results in both runs"
        )


def differences_of(first: ImageResults, others: Sequence[ImageResults], draws: int) -> list[list[Difference]]:
    """Of each of the others, the difference in every metric that both have, the main one first.

    Args:
        first: what is compared with.
        others: of the same images, see `require_same_images`.
        draws: of the bootstrap.
    """
    images = scored_images(first)
    spread = [_distribution(results, images, draws) for results in (first, *others)]
    return [
        [
            _difference(name, first, other, spread[0].get(name), own.get(name))
            for name in _common(first, other)
        ]
        for other, own in zip(others, spread[1:], strict=True)
    ]  # fmt: skip


def verdict(found: Difference, names: tuple[str, str]) -> str:
    """One sentence: "B is better by 0.012 AP, 95 % interval 0.003 ... 0.021, P = 0.99"."""
    a, b = names
    if np.isnan(found.better):
        return f"{b} and {a} cannot be compared by {found.metric}, which was not measured in most draws"
    low, high = found.low, found.high
    if found.better >= SURE or found.better <= 1 - SURE:
        winner, sure = (b, found.better) if found.better > 0.5 else (a, 1 - found.better)
        if found.value < 0:
            low, high = -high, -low
        how = "better (lower)" if found.lower else "better"
        between = f"{CONFIDENCE:.0%} interval {metric(low)} … {metric(high)}"
        return f"{winner} is {how} by {abs(found.value):.3f} {spelled(found.metric)}, {between}, P {_probability(sure)}"
    between = f"{CONFIDENCE:.0%} interval {_signed(low)} … {_signed(high)}"
    return (
        f"{b} and {a} cannot be told apart: {b} has {_signed(found.value)} {spelled(found.metric)}, {between}, "
        f"P({b} is better) {_probability(found.better)}"
    )


def _probability(value: float) -> str:
    return "> 0.99" if value > 0.995 else f"= {value:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _common(first: ImageResults, other: ImageResults) -> list[str]:
    main = first.main if first.main in other.metrics else other.main
    names = [name for name in first.metrics if name in other.metrics]
    return list(dict.fromkeys([main, *names]))


def _distribution(results: ImageResults, images: Sequence[str], draws: int) -> Mapping[str, Floats]:
    """Values by metric of draws from `images`, in whatever order these results have them."""
    place = {name: row for row, name in enumerate(images)}
    order = np.array([place[name] for name in scored_images(results)], np.int64)
    measure = measure_of(results)

    def reordered(weights: Weights) -> Mapping[str, float]:
        return measure(weights[order])

    return distribution(reordered, len(images), draws)


def _difference(
    name: str, first: ImageResults, other: ImageResults, before: Floats | None, after: Floats | None
) -> Difference:
    lower = name in first.lower
    low = high = better = float("nan")
    if before is not None and after is not None:
        change = after - before
        found, known = interval(change), change[~np.isnan(change)]
        if found is not None:
            low, high = found.low, found.high
            good = -known if lower else known
            better = float((good > 0).mean() + 0.5 * (good == 0).mean())
    return Difference(name, first.metrics[name], other.metrics[name], low, high, better, lower)


def _same_truth(first: ImageResults, other: ImageResults) -> bool:
    mine, theirs = _truth(first), _truth(other)
    return mine.shape == theirs.shape and bool(np.array_equal(mine, theirs))


def _truth(results: ImageResults) -> npt.NDArray[np.float64]:
    """What is annotated, in an order that is the same for the same images."""
    arrays = results.arrays
    order = np.argsort(np.asarray(scored_images(results), dtype=object), kind="stable")
    if results.kind in ("boxes", "instances"):
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        row = dict(zip(arrays["image_ids"].tolist(), place.tolist(), strict=True))
        truth = arrays["truth"].copy()
        truth[:, 0] = [row[int(image)] for image in truth[:, 0]]
        return np.asarray(truth[np.lexsort(truth.T[::-1])], np.float64)
    own = arrays["counts"][:, :, 2] if results.kind == "masks" else arrays["truth"]
    return np.asarray(own[order], np.float64)
