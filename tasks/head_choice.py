"""Which of an experiment's heads learn, and experiments with some of their heads only."""

from collections.abc import Collection, Sequence

from backbones.errors import UserError
from tasks.config import Experiment, LossesConfig


def learning_heads(config: Experiment) -> tuple[str, ...]:
    """Names of the heads that learn, in the order of the config: those of `model.train_only`, or all.

    Raises:
        UserError: there is no such head.
    """
    _require_known("model.train_only", config.model.train_only, config.heads)
    only = config.model.train_only or config.heads
    return tuple(name for name in config.heads if name in only)


def keep_heads(config: Experiment, only: Sequence[str]) -> Experiment:
    """The same experiment with some of its heads; whatever speaks of the others alone goes with them.

    Args:
        config: is not changed.
        only: names of heads; empty keeps all.

    Raises:
        UserError: there is no such head.
    """
    kept = config.model_copy(deep=True)
    if not only:
        return kept
    _require_known("--only", only, config.heads)
    kept.heads = {name: head for name, head in kept.heads.items() if name in only}
    kept.losses.weights = {name: weight for name, weight in kept.losses.weights.items() if name in only}
    kept.model.train_only = tuple(name for name in kept.model.train_only if name in only)
    for name, source in list(kept.data.sources.items()):
        if source.heads:
            source.heads = tuple(head for head in source.heads if head in only)
            if not source.heads:
                del kept.data.sources[name]
    if kept.runner.monitor is not None and kept.runner.monitor.split("/")[0] not in only:
        kept.runner.monitor = None
    return kept


def heads_to_use(config: Experiment, only: Sequence[str]) -> Experiment:
    """The same experiment with some of its heads, to be evaluated or used and not trained.

    Raises:
        UserError: there is no such head.
    """
    kept = keep_heads(config, only)
    kept.model.train_only, kept.losses = (), LossesConfig()
    return kept


def _require_known(what: str, names: Collection[str], known: Collection[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"{what} names {unknown[0]!r}; expected heads of the experiment: {', '.join(known) or 'none'}")
