"""What a reader of annotations promises, and the table of readers.

    @register_reader("my_format")
    class MyFolder(Reader): ...

makes `--data.format my_format` work; the entry-point group is "polyhead.readers".
"""

from abc import ABC, abstractmethod
from pathlib import Path

from backbones.registry import Registry
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.wanted import LabelKind


class Reader(ABC):
    """A folder of images with annotations in one format.

    Args:
        root: the folder, or the file where the format is one.
        options: the data section of the config; None is its defaults.
        labels: what labels of whole images mean.

    Raises:
        UserError: from any method, when the folder or a file in it cannot be used.
    """

    def __init__(self, root: Path, options: DataConfig | None = None, labels: LabelKind = "single") -> None:
        self.root, self.options, self.labels = root, options or DataConfig(), labels

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Whether the folder looks like this format; asked when `data.format` is "auto"."""
        return False

    @abstractmethod
    def splits(self) -> list[str]:
        """Names of the splits that lie in the folder, sorted."""

    @abstractmethod
    def read(self, split: str, masks: bool = False) -> Annotations:
        """One split, with masks or the outlines of its objects if `masks`. The label map is the same for all splits
        of a folder, or they cannot be trained and evaluated together.
        """


readers: Registry[Reader] = Registry("reader", "polyhead.readers")
register_reader = readers.register
