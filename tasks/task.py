"""What a kind of target adds to the shared parts: how its predictions are scored, drawn and explained."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from heads.contract import ImageSizes, Prediction, Reads
from tasks.config import Experiment
from tasks.data.annotations import Annotations
from tasks.drawing import Picture
from tasks.explanation.subject import Question, Subject
from tasks.image_results import Arrays, Kind
from tasks.label_map import LabelMap
from tasks.prediction.from_torch import found_in


class Scorer(ABC):
    """Scores the predictions of one head on one split. Every process adds its own images; the main one counts.

    Args:
        head: name of the head in the config.
        config: the experiment.
        annotations: the split.
        labels: classes of the head.

    Attributes:
        kind: of target, as results that are kept call it.
        lower: names of metrics that are better when lower, and -1 where nothing could be measured; all others are
            better when higher.
    """

    kind: ClassVar[Kind]
    lower: frozenset[str] = frozenset()

    def __init__(self, head: str, config: Experiment, annotations: Annotations, labels: LabelMap) -> None:
        self.head, self.config, self.annotations, self.labels = head, config, annotations, labels

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """The metric that names the best checkpoint unless the config chooses another."""

    @property
    @abstractmethod
    def headline(self) -> tuple[str, ...]:
        """The few metrics to show in one line."""

    @abstractmethod
    def names(self) -> list[str]:
        """Every metric that `metrics` gives; "Dice/nucleus" is that of one class."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what was added, before an evaluation."""

    @abstractmethod
    def add(self, index: int, prediction: Prediction) -> None:
        """Take the prediction of image `index` of the split; it is in memory of any device."""

    @abstractmethod
    def collected(self) -> Any:
        """What this process has added, small and picklable, to be sent to the main one."""

    @abstractmethod
    def metrics(self, collected: Sequence[Any]) -> dict[str, float]:
        """Metric by name from what all processes collected, each image once; -1 where nothing could be measured."""

    @abstractmethod
    def arrays(self) -> Arrays:
        """What the last call of `metrics` rests on, image by image, with the arrays named as a report reads them."""

    def options(self) -> dict[str, Any]:
        """What else is needed to read `arrays`, as json."""
        return {}

    def notes(self) -> list[str]:
        """Lines to print below the metrics of the last call of `metrics`: counts that the numbers rest on."""
        return []

    def draw(self, folder: Path) -> None:  # noqa: B027  many have no picture to draw
        """Write pictures of the last call of `metrics`, such as a confusion matrix, as `folder/<head>_*.png`."""


class Task(ABC):
    """A kind of target.

    Attributes:
        reads: the field of `heads.Targets`.
        scorer: its scorer.
    """

    reads: ClassVar[Reads]
    scorer: ClassVar[type[Scorer]]

    @staticmethod
    @abstractmethod
    def require(annotations: Annotations) -> None:
        """Raise `UserError` when the split holds nothing to learn from."""

    @staticmethod
    @abstractmethod
    def draw_truth(picture: Picture, annotations: Annotations, index: int, labels: LabelMap) -> None:
        """Draw what is annotated onto the picture of image `index`."""

    @staticmethod
    def draw(picture: Picture, prediction: Prediction, labels: LabelMap, threshold: float) -> None:
        """Draw what was predicted onto the picture of its image; boxes and labels that score less are left out."""
        found_in(prediction).draw(picture, labels, threshold)

    @staticmethod
    @abstractmethod
    def subjects(prediction: Prediction, sizes: ImageSizes, labels: LabelMap, question: Question) -> list[Subject]:
        """What of a prediction is to be explained, the most important first; nothing where nothing was found.

        Args:
            prediction: for the one image of a batch.
            sizes: of that batch.
            labels: classes.
            question: what was asked.
        """
