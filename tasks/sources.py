"""The data sets of an experiment: one, or several that each feed some of its heads."""

from collections.abc import Sequence
from dataclasses import dataclass

from backbones.errors import UserError
from tasks.config import DataConfig, Experiment, SourceConfig
from tasks.data.annotations import Annotations
from tasks.data.augmentation.combinations import require_fitting, require_outlines_to_paste
from tasks.data.mixture import Ingredient, Mixture
from tasks.data.splits import open_splits
from tasks.data.wanted import Wanted
from tasks.data_config import PlaceConfig
from tasks.head_choice import learning_heads
from tasks.kinds import head_labels, require_targets, wanted_targets
from tasks.label_map import LabelMap
from tasks.training_statistics import fill_from_data


@dataclass(frozen=True, slots=True)
class Source:
    """A data set that is open.

    Attributes:
        name: in the config; empty where there is only one.
        experiment: the heads that learn from it, and `data` as it is for it alone. The sections of the heads are those
            of the whole experiment, not copies.
        wanted: the targets that its samples bring.
        train: its training split.
        val: its validation split.
        ratio: see `SourceConfig`.
    """

    name: str
    experiment: Experiment
    wanted: Wanted
    train: Annotations
    val: Annotations
    ratio: float | None = None


def open_sources(config: Experiment) -> tuple[list[Source], list[str]]:
    """All data sets of an experiment, and what a person should be told about them, a line each.

    Raises:
        UserError: a data set cannot be used or has nothing for a head that is to learn from it, a head is unknown, or
            learns from none.
    """
    if not config.data.sources:
        source, told = _open("", config)
        return [source], told
    _require_no_place(config.data)
    sources, told = [], []
    for name, section in config.data.sources.items():
        heads = _heads(config, name, section)
        if not heads:
            continue
        own = config.model_copy(
            update={
                "heads": {head: config.heads[head] for head in heads},
                "data": source_data(config.data, section),
                "model": config.model.model_copy(update={"train_only": ()}),
            }
        )
        try:
            source, lines = _open(name, own, section.ratio)
        except UserError as error:
            raise UserError(f"data.sources.{name}: {error}") from None
        sources.append(source)
        told += [f"{name}: {line}" for line in lines]
    fed = {head for source in sources for head in source.experiment.heads}
    hungry = [head for head in learning_heads(config) if head not in fed]
    if hungry:
        raise UserError(
            f"heads.{hungry[0]}: no source has it among its heads, so there is nothing to learn from; name it in "
            f"data.sources.{next(iter(config.data.sources))}.heads, say"
        )
    return sources, told


def source_data(data: DataConfig, source: SourceConfig) -> DataConfig:
    """`data` with one of its sources in the place of all of them."""
    place = {field: getattr(source, field) for field in PlaceConfig.model_fields}
    return data.model_copy(update={**place, "sources": {}})


def source_labels(sources: Sequence[Source]) -> dict[str, LabelMap]:
    """The classes of each head that learns; of several sources, as the first has them.

    Raises:
        UserError: the classes of two sources of a head have other names, or another order.
    """
    labels: dict[str, LabelMap] = {}
    first: dict[str, str] = {}
    for source in sources:
        for head, classes in head_labels(source.experiment, source.train).items():
            before = labels.setdefault(head, classes)
            if before.names != classes.names:
                raise UserError(
                    f"data.sources: the head {head!r} learns from {first[head]!r} with the classes {before} and from "
                    f"{source.name!r} with {classes}; expected the same names in the same order: set "
                    f"data.sources.{source.name}.class_names, or give each its own head"
                )
            first.setdefault(head, source.name)
    return labels


def fill_from_sources(sources: Sequence[Source]) -> None:
    """`fill_from_data` of all; what several sources could decide follows from the first of them."""
    for source in sources:
        fill_from_data(source.experiment, source.train)


def training_data(config: Experiment, sources: Sequence[Source]) -> Annotations | Mixture:
    """What to train on: the one split, or the mixture of several.

    Raises:
        UserError: a source would have no image in an epoch.
    """
    if not config.data.sources:
        return sources[0].train
    heads = learning_heads(config)
    return Mixture(
        [
            Ingredient(
                name=source.name,
                annotations=source.train,
                config=source.experiment.data,
                wanted=source.wanted,
                fed=tuple(head in source.experiment.heads for head in heads),
                ratio=source.ratio,
            )
            for source in sources
        ]
    )


def _open(name: str, config: Experiment, ratio: float | None = None) -> tuple[Source, list[str]]:
    wanted = wanted_targets(config)
    require_fitting(config.data, wanted)
    train, val, told = open_splits(config.data, config.runner.seed, wanted)
    require_targets(config, train)
    require_outlines_to_paste(config.data, train)
    return Source(name, config, wanted, train, val, ratio), told


def _heads(config: Experiment, name: str, section: SourceConfig) -> list[str]:
    """Heads that learn from a source."""
    unknown = [head for head in section.heads if head not in config.heads]
    if unknown:
        raise UserError(
            f"data.sources.{name}.heads names {unknown[0]!r}; expected heads of the experiment: "
            f"{', '.join(config.heads)}"
        )
    return [head for head in learning_heads(config) if not section.heads or head in section.heads]


def _require_no_place(data: DataConfig) -> None:
    default = PlaceConfig()
    for field in (*PlaceConfig.model_fields, "folds"):
        if getattr(data, field) != getattr(default, field, None):
            raise UserError(
                f"data.{field} is {getattr(data, field)}, but data.sources says where the data lies; set it for a "
                f"source, such as data.sources.{next(iter(data.sources))}.{field}"
                if field != "folds"
                else "data.folds is set, but data.sources cannot be cross-validated; set it to None"
            )
