"""Opening the data, and what is said when that fails or time is short."""

from backbones.errors import UserError
from tasks.checking.clock import Clock
from tasks.checking.finding import Finding, Kind
from tasks.checking.subject import Subject
from tasks.config import Experiment
from tasks.initial_weights import resting_labels, run_to_start_from
from tasks.sources import open_sources, source_labels

DATA_UNUSABLE = Kind(
    "data-unusable",
    "error",
    "The data cannot be opened as the config says: no annotations, categories that are not listed, splits of other "
    "classes, nothing to learn from.",
    "Training would not begin. Nothing else can be checked.",
)
NOT_CHECKED = Kind(
    "not-checked",
    "note",
    "The time of `--seconds` was over before all checks were made.",
    "Nothing is known of what these look at.",
)


def open_subjects(config: Experiment, clock: Clock) -> list[Subject] | Finding:
    """The experiment with each of its data sets, or why they cannot be opened."""
    try:
        sources, _ = open_sources(config)
        shared = {**source_labels(sources), **resting_labels(config, run_to_start_from(config, None))}
        return [
            Subject(
                source.name,
                source.experiment,
                source.train,
                source.val,
                source.wanted,
                {head: shared[head] for head in source.experiment.heads},
                clock,
            )
            for source in sources
        ]
    except UserError as error:
        return Finding(DATA_UNUSABLE, str(error), "data that can be read whole", "follow the advice in the message")


def not_checked(names: list[str], clock: Clock) -> Finding:
    """For checks that there was no time for."""
    return Finding(
        NOT_CHECKED,
        f"{', '.join(names)}: of {clock.seconds:.0f} s, too few were left",
        "time for all checks",
        f"give more: --seconds {2 * clock.seconds:.0f}",
    )
