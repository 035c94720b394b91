"""How a run, or several, went: losses, metrics, learning rate, gradient norm, speed, and waiting for data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tasks.report.blocks import Figure
from tasks.report.chart import chart, colour
from tasks.report.metric_names import spelled
from tasks.report.numbers import metric

Points = tuple[list[float], list[float]]
Record = Mapping[str, Any]
Value = Callable[[Record], float | None]
MOST_LOSSES = 8
WINDOW = 25  # lines of the log that a curve is the running median of, where there are many


def training_figures(runs: Mapping[str, Sequence[Record]]) -> list[Figure]:
    """Charts of the lines of training of each run by its name; a quantity that no run has noted is left out.

    With a single run its losses share a chart; with several each has its own, in which runs can be compared.
    """
    figures = [_figure(runs, "Loss", lambda record: record["loss"], "sum of all losses")]
    names = dict.fromkeys(name for lines in runs.values() for record in lines for name in record["losses"])
    if len(names) > 1 and len(runs) == 1:
        (lines,) = runs.values()
        parts = {name: _points(lines, _loss(name)) for name in names}
        figures += [
            _together(dict(list(parts.items())[i : i + 4]), i, names) for i in range(0, min(len(parts), MOST_LOSSES), 4)
        ]
    elif len(names) > 1:
        figures += [_figure(runs, name, _loss(name)) for name in list(names)[:MOST_LOSSES]]
    figures += [
        _figure(
            runs, "Learning rate", lambda record: record["lr"], "the largest of all parameter groups", smooth=False
        ),
        _figure(
            runs, "Gradient norm", lambda record: record.get("gradient_norm"), "at the logged steps, before clipping"
        ),
        _figure(runs, "Images a second", lambda record: record["images_per_second"], low=0),
        _figure(
            runs,
            "Waiting for data",
            lambda record: 100 * record["data_wait"],
            "% of the time, at the logged steps",
            low=0,
        ),
    ]
    return [figure for figure in figures if figure.svg]


def metric_figures(
    runs: Mapping[str, Sequence[Record]], names: Sequence[str], best: Mapping[str, int | None]
) -> list[Figure]:
    """Charts of metrics over steps, one each.

    Args:
        runs: evaluations of each run by its name.
        names: of the metrics, as in the log.
        best: step of the best checkpoint of each run, to be marked.
    """
    figures = []
    for name in names:
        series = {run: _points(evaluations, _metric(name)) for run, evaluations in runs.items()}
        shown = {run: points for run, points in series.items() if points[0]}
        if not shown:
            continue
        told = [
            f"{run}: {metric(points[1][0])} at first, {metric(points[1][-1])} at last" for run, points in shown.items()
        ]

        def draw(axes: Axes, shown: Mapping[str, Points] = shown) -> None:
            for run, (steps, values) in shown.items():
                number = list(runs).index(run)
                axes.plot(steps, values, "o-", color=colour(number), markersize=3.5)
                for step, value in zip(steps, values, strict=True):
                    if step == best.get(run):
                        axes.plot([step], [value], "o", color=colour(number), markersize=8, fillstyle="none")
            axes.margins(y=0.12)
            _over_steps(axes)

        title = spelled(name)
        figures.append(Figure(title, chart(draw), f"{title} over steps. {'. '.join(told)}.", _marked(shown, best)))
    return figures


def _marked(shown: Mapping[str, Points], best: Mapping[str, int | None]) -> str:
    """What the rings of a chart mean; of a single run with its number."""
    values = [
        (step, value)
        for run, (steps, each) in shown.items()
        for step, value in zip(steps, each, strict=True)
        if step == best.get(run)
    ]
    if not values:
        return ""
    step, value = values[0]
    return (
        f"ring: the best checkpoint, {metric(value)} at step {step:,.0f}"
        if len(shown) == 1
        else "rings: the best checkpoints"
    )


def _over_steps(axes: Axes) -> None:
    axes.set_xlabel("steps")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def _loss(name: str) -> Value:
    return lambda record: record["losses"].get(name)


def _metric(name: str) -> Value:
    return lambda record: _known(record["metrics"], name)


def _known(metrics: Mapping[str, float], name: str) -> float | None:
    value = metrics.get(name, -1)
    return None if value == -1 else value


def _points(records: Sequence[Record], value: Value) -> Points:
    pairs = [(float(record["step"]), own) for record in records if (own := value(record)) is not None]
    return [step for step, _ in pairs], [float(own) for _, own in pairs]


def _figure(
    runs: Mapping[str, Sequence[Record]],
    title: str,
    value: Value,
    caption: str = "",
    *,
    low: float | None = None,
    smooth: bool = True,
) -> Figure:
    series = {name: _points(lines, value) for name, lines in runs.items()}
    if not any(steps for steps, _ in series.values()):
        return Figure(title, "", "")

    def draw(axes: Axes) -> None:
        for number, points in enumerate(series.values()):
            _line(axes, points, number, smooth)
        _over_steps(axes)
        if low is not None:
            axes.set_ylim(bottom=low, top=None if max(axes.get_ylim()) > low else low + 1)

    told = [f"{name}: {own[0]:.3g} at first, {own[-1]:.3g} at last" for name, (_, own) in series.items() if own]
    return Figure(title, chart(draw), f"{title} over steps. {'. '.join(told)}.", caption)


def _together(parts: Mapping[str, Points], first: int, every: Iterable[str]) -> Figure:
    """Up to four losses of a run in one chart, on a logarithmic scale where all are positive; the names of all losses
    tell whether those of several heads have to be told apart.
    """
    several = len({name.split("/", 1)[0] for name in every}) > 1
    names = [name if several else name.rsplit("/", 1)[-1] for name in parts]
    names = [name.replace("/loss_", ": ").removeprefix("loss_").replace("_", " ") for name in names]

    def draw(axes: Axes) -> None:
        for number, points in enumerate(parts.values()):
            _line(axes, points, number, True)
        if all(value > 0 for _, values in parts.values() for value in values):
            axes.set_yscale("log")
        _over_steps(axes)

    told = [
        f"{name}: {own[0]:.3g} at first, {own[-1]:.3g} at last"
        for name, (_, own) in zip(names, parts.values(), strict=True)
    ]
    return Figure("Losses by part" if not first else "Further losses", chart(draw), f"{'. '.join(told)}.", keys=names)


def _line(axes: Axes, points: Points, number: int, smooth: bool) -> None:
    """The values, faint below their running median where there are many."""
    steps, values = points
    many = smooth and len(values) > 4 * WINDOW
    look: dict[str, Any] = {"color": colour(number), "marker": "o" if len(values) == 1 else ""}
    if many:
        axes.plot(steps, values, **look, alpha=0.3, linewidth=1.0)
        values = _running_median(values)
    axes.plot(steps, values, **look)


def _running_median(values: Sequence[float]) -> list[float]:
    half = WINDOW // 2
    windows = (sorted(values[max(0, i - half) : i + half + 1]) for i in range(len(values)))
    return [window[len(window) // 2] for window in windows]
