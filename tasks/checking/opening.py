"""Opening the data, and what is said when that fails or time is short."""

from backbones.errors import UserError
from tasks.checking.clock import Clock
from tasks.checking.finding import Finding, Kind
from tasks.checking.subject import Subject
from tasks.config import Experiment
from tasks.data.splits import open_splits
from tasks.kinds import head_labels, require_targets, wanted_targets

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


def open_subject(config: Experiment, clock: Clock) -> Subject | Finding:
    """The experiment with its data, or why it cannot be opened."""
    try:
        wanted = wanted_targets(config)
        train, val, _ = open_splits(config.data, config.runner.seed, wanted)
        require_targets(config, train)
        return Subject(config, train, val, wanted, head_labels(config, train), clock)
    except UserError as error:
        return Finding(DATA_UNUSABLE, str(error), "data that can be read whole", "follow the advice in the message")


def not_checked(names: list[str], clock: Clock) -> Finding:
    """For checks that there was no time for."""
    return Finding(
        NOT_CHECKED,
        f"{', '.join(names)}: {clock.seconds:g} s were over",
        "time for all checks",
        f"give more: --seconds {2 * clock.seconds:g}",
    )
