"""Scores a model with several heads, on one data set or on several, each image once and in one pass of the backbone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from accelerate.accelerator import Accelerator

from backbones.errors import UserError
from tasks.config import Experiment
from tasks.evaluation import Evaluator
from tasks.head_choice import learning_heads
from tasks.image_results import ImageResults
from tasks.inference import Predictor
from tasks.kinds import head_labels
from tasks.label_map import LabelMap
from tasks.progress import Reporter
from tasks.sources import Source

MEAN = "joint/mean"


class JointEvaluator:
    """The evaluators of several data sets together, with the same methods as one of them.

    A metric is called `"<head>/<metric>"`, or `"<head>@<source>/<metric>"` where the head learns from several sources,
    whose numbers are never mixed. Beside them there is "joint/mean", the mean of the main metrics of all heads, each of
    which counts as 0 where it is below 0 or could not be measured: R2 has no lower bound, and would drown the others.

    Args:
        evaluators: by the name of their source.

    Raises:
        UserError: a head is called "joint".
    """

    def __init__(self, evaluators: Mapping[str, Evaluator]) -> None:
        self.evaluators = evaluators
        heads = [head for evaluator in evaluators.values() for head in evaluator.scorers]
        if "joint" in heads:
            raise UserError("heads.joint: the mean over heads is called that; expected another name for a head")
        self._names = {
            (source, head): f"{head}@{source}" if heads.count(head) > 1 else head
            for source, evaluator in evaluators.items()
            for head in evaluator.scorers
        }

    @property
    def main_metric(self) -> str:
        """The mean over heads names the best checkpoint unless the config chooses another."""
        return MEAN

    def metric_names(self) -> list[str]:
        """Every metric that `evaluate` gives."""
        return [
            *(self._named(source, name) for source, own in self.evaluators.items() for name in own.metric_names()),
            MEAN,
        ]

    def headline(self) -> list[str]:
        """Names of the few metrics to show in one line."""
        return [
            MEAN,
            *(self._named(source, name) for source, own in self.evaluators.items() for name in own.headline()),
        ]

    def goodness(self, metric: str, value: float) -> float:
        """As `Evaluator.goodness`."""
        if metric == MEAN:
            return value
        part, name = metric.split("/", 1)
        source, head = next(key for key, named in self._names.items() if named == part)
        return self.evaluators[source].goodness(f"{head}/{name}", value)

    def evaluate(self, predictor: Predictor, reporter: Reporter, pictures: Path | None = None) -> dict[str, float]:
        """Metrics by name, on every process; arguments as for `Evaluator.evaluate`.

        The heads that a source does not feed are not computed on its images.
        """
        metrics: dict[str, float] = {}
        for source, evaluator in self.evaluators.items():
            folder = pictures / source if pictures is not None and len(self.evaluators) > 1 else pictures
            found = evaluator.evaluate(predictor.part(list(evaluator.scorers)), reporter, folder)
            metrics |= {self._named(source, name): value for name, value in found.items()}
        main = [
            metrics[f"{self._names[source, head]}/{scorer.main_metric}"]
            for source, evaluator in self.evaluators.items()
            for head, scorer in evaluator.scorers.items()
        ]
        return {**metrics, MEAN: sum(max(value, 0.0) for value in main) / len(main)}

    def results(self, step: int, metrics: Mapping[str, float]) -> list[ImageResults]:
        """As `Evaluator.results`; the heads are called as in the metrics."""
        found = []
        for source, evaluator in self.evaluators.items():
            own = {name: metrics[self._named(source, name)] for name in evaluator.metric_names()}
            found += [replace(result, head=self._names[source, result.head]) for result in evaluator.results(step, own)]
        return found

    def notes(self) -> list[str]:
        """Counts that the last metrics rest on, for people."""
        several = len(self.evaluators) > 1
        return [
            f"{source}, {note}" if several else note
            for source, evaluator in self.evaluators.items()
            for note in evaluator.notes()
        ]

    def _named(self, source: str, metric: str) -> str:
        head, name = metric.split("/", 1)
        return f"{self._names[source, head]}/{name}"


def build_evaluator(
    config: Experiment,
    sources: Sequence[Source],
    labels: Mapping[str, LabelMap],
    accelerator: Accelerator,
    divisor: int,
    workers: int | None = None,
) -> Evaluator | JointEvaluator:
    """What scores the heads of an experiment that learn: a plain evaluator where that is a single one.

    Arguments as for `Evaluator`; the splits are those of the sources.
    """
    evaluators = {}
    for source in sources:
        # Predictions are written down with the ids of the classes that the source itself has.
        own = {head: labels[head] for head in source.experiment.heads}
        if source.name:
            own |= head_labels(source.experiment, source.val)
        evaluators[source.name] = Evaluator(source.experiment, source.val, own, accelerator, divisor, workers)
    if len(learning_heads(config)) == 1 and len(sources) == 1:
        return evaluators[sources[0].name]
    return JointEvaluator(evaluators)
