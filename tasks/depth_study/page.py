"""The study as one self-contained page: plots, a table, and what the numbers say."""

import io
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.config import Experiment
from tasks.depth_study.measured import Measured

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --paper: #ffffff; --line: #d5dce3; --soft: #5c6b7a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --paper: #14191f; --line: #36414c; --soft: #9aa8b5; } }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
figure { margin: 1rem 0; padding: .5rem; background: #ffffff; border: 1px solid var(--line); border-radius: 6px; }
figure { overflow-x: auto; } figure svg { width: 100%; min-width: 38rem; height: auto; display: block; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } p.note { color: var(--soft); font-size: .9rem; }
"""
COLOURS = ("#d1495b", "#2e6f95", "#3c8d53", "#b5731c", "#6d4fa1", "#4a5560")
SHADES = ("#c9d7e3", "#1c2733")  # shallow to deep, of one family


def write_page(found: Sequence[Measured], config: Experiment, file: Path) -> None:
    """Write the page; it needs nothing from elsewhere.

    Args:
        found: the networks, in the order in which they are to be listed.
        config: the recipe that they were trained by.
        file: to write.
    """
    schedule, optimizer = config.schedule, config.optimizer
    length = f"{schedule.steps} steps" if schedule.steps else f"{schedule.epochs} epochs"
    recipe = (
        f"{length} of {optimizer.name}, batch {config.data.batch_size}, rate {optimizer.lr:g} after a warm-up of "
        f"{schedule.warmup_steps} steps, weight decay {optimizer.weight_decay:g}, seed {config.runner.seed}. "
        "One run each: differences as small as those between two seeds say nothing."
    )
    parts = [
        "<h1>What depth does to training</h1>",
        "<p>A deeper network can do all that a shallower one can, by letting its further layers pass on what they get. "
        "If it ends with a <em>higher training error</em>, it has not overfitted: it could not be trained as well "
        "(He et al., arXiv:1512.03385, section 1).</p>",
        f'<p class="note">{escape(recipe)}</p>',
        "<h2>What these runs say</h2>",
        "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences(found)) + "</ul>",
        "<h2>Error against depth</h2>",
        _figure(_errors(found)),
        "<h2>Training loss</h2>",
        _figure(_losses(found)),
        "<h2>Gradient flow</h2>",
        "<p>The norm of the loss's gradient at each convolution over the norm of its weights, from the image (left) to "
        "the classifier (right): how far a step of rate 1 would move the layer.</p>",
        _figure(_gradients(found)),
        "<h2>Numbers</h2>",
        _table(found),
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>What depth does to training</title><style>{STYLE}</style></head>\n<body>\n"
    )
    file.write_text(page + "\n".join(parts) + "\n</body></html>\n", encoding="utf-8")


def families(found: Sequence[Measured]) -> dict[str, list[Measured]]:
    """The networks by family, the families in the order given, each from shallow to deep."""
    by_depth = sorted(found, key=lambda each: each.depth)
    return {first.family: [each for each in by_depth if each.family == first.family] for first in found}


def sentences(found: Sequence[Measured]) -> Iterator[str]:
    """What the errors and gradients amount to, family by family."""
    for family, members in families(found).items():
        first, last = members[0], members[-1]
        if len(members) > 1:
            change = last.training_error - first.training_error
            verdict = "harder to train" if change > 0 else "better trained" if change < 0 else "trained alike"
            yield (
                f"{family}: from {first.depth} to {last.depth} layers the training error goes from "
                f"{first.training_error:.1%} to {last.training_error:.1%}: the deeper network is {verdict}; the "
                f"validation error goes from {first.validation_error:.1%} to {last.validation_error:.1%}."
            )
        else:
            yield (
                f"{family}: with {last.depth} layers the training error is {last.training_error:.1%}, the validation "
                f"error {last.validation_error:.1%}."
            )
        start, end = (_spread([layer.relative for layer in layers]) for layers in (last.at_start, last.at_end))
        yield (
            f"{last.network}: the strongest gradient of a layer is {start:.0f} times the weakest before training and "
            f"{end:.0f} times after it."
        )


def _spread(values: Sequence[float]) -> float:
    return max(values) / max(min(values), 1e-30)


def _colour(family: str, found: Sequence[Measured]) -> str:
    return COLOURS[list(families(found)).index(family) % len(COLOURS)]


def _axes(columns: int, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(10, height), layout="constrained")
    axes = [figure.add_subplot(1, columns, index + 1) for index in range(columns)]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25)
    return figure, axes


def _errors(found: Sequence[Measured]) -> Figure:
    figure, axes = _axes(2)
    for axis, title, kind in zip(axes, ("training", "validation"), ("training_error", "validation_error"), strict=True):
        for family, members in families(found).items():
            axis.plot(
                [each.depth for each in members],
                [100 * getattr(each, kind) for each in members],
                "o-",
                color=_colour(family, found),
                label=family,
            )
        axis.set(title=f"{title} error", xlabel="layers", ylabel="%")
        axis.set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    return figure


def _losses(found: Sequence[Measured]) -> Figure:
    by_family = families(found)
    figure, axes = _axes(len(by_family), 3.2)
    highest = max((loss for each in found for _, loss in each.losses), default=1.0)
    for axis, (family, members) in zip(axes, by_family.items(), strict=True):
        for rank, each in enumerate(members):
            steps, losses = np.array(each.losses).reshape(-1, 2).T
            axis.plot(steps, losses, color=_shade(rank, len(members)), linewidth=1.3, label=str(each.depth))
        axis.set(title=family, xlabel="steps", ylim=(0, min(highest, 3.5)))
        axis.legend(frameon=False, title="layers")
    return figure


def _gradients(found: Sequence[Measured]) -> Figure:
    deepest = [members[-1] for members in families(found).values()]
    figure, axes = _axes(2)
    for axis, title, moment in zip(axes, ("before training", "after training"), ("at_start", "at_end"), strict=True):
        for each in deepest:
            layers = getattr(each, moment)
            place = np.linspace(0, 1, len(layers))
            values = [layer.relative for layer in layers]
            axis.plot(place, values, color=_colour(each.family, found), linewidth=1.3, label=each.network)
        axis.set(title=title, xlabel="depth of the layer, 0 to 1", yscale="log")
    axes[0].legend(frameon=False)
    axes[0].set_ylabel("gradient / weights")
    return figure


def _shade(rank: int, count: int) -> tuple[float, ...]:
    ends = np.array([[int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5)] for shade in SHADES])
    share = rank / (count - 1) if count > 1 else 1.0
    return tuple(ends[0] * (1 - share) + ends[1] * share)


def _figure(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"


def _table(found: Sequence[Measured]) -> str:
    rows = "".join(
        f"<tr><td>{escape(each.network)}</td><td>{each.depth}</td><td>{each.parameters / 1e6:.2f} M</td>"
        f"<td>{each.training_error:.2%}</td><td>{each.validation_error:.2%}</td></tr>"
        for each in found
    )
    head = "".join(
        f"<th>{name}</th>" for name in ("network", "layers", "parameters", "training error", "validation error")
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
