"""What can find things in images: a trained run, or an exported file."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from tasks.data.files.image_file import Pixels
from tasks.prediction.description import ModelDescription
from tasks.prediction.found import Found


class Engine(ABC):
    """A model ready for use.

    Attributes:
        description: of the model.
    """

    description: ModelDescription

    def notes(self) -> list[str]:
        """Lines about the model to show before it works."""
        return []

    @abstractmethod
    def predict(self, images: Sequence[Pixels]) -> list[Mapping[str, Found]]:
        """What each head finds in each image, by the name of the head.

        Args:
            images: (H, W, C) stored pixels, as `read_image` gives them; of any sizes.
        """
