"""What a model found in one image, together with the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.data.files.image_file import Pixels
from tasks.drawing import Picture
from tasks.prediction.description import ModelDescription
from tasks.prediction.found import Found
from tasks.prediction.found_boxes import FoundBoxes


@dataclass(frozen=True, slots=True, eq=False)
class ImagePredictions:
    """What a model found in one image.

    Attributes:
        image: (H, W, C) stored pixels, upright: where a photograph says in its EXIF how to turn it, it is turned, and
            all coordinates are those of what a viewer shows.
        found: by the name of the head.
        model: describes the model, with the classes of each head.
        file: where the image is from; empty for an array.
    """

    image: Pixels
    found: Mapping[str, Found]
    model: ModelDescription
    file: str = ""

    def __getitem__(self, head: str) -> Found:
        """What one head found: `FoundBoxes`, `FoundLabels` or `FoundMasks`."""
        return self.found[head]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[0], self.image.shape[1]

    def picture(self, threshold: float = 0.5) -> Picture:
        """The image with everything drawn on it, small images enlarged."""
        picture = Picture.of(self.image, self.model.image)
        for name, found in self.found.items():
            found.draw(picture, self.model.heads[name].labels, threshold)
        return picture

    def draw(self, threshold: float = 0.5) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: `picture` as an array. Boxes and labels that score less than `threshold` are left out.

        The array is larger than the image by a whole factor where its longer side has less than half of 640 pixels.
        """
        return self.picture(threshold).pixels

    def rows(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Rows of `predictions.json`, without the paths of masks; with several heads each names its `head`."""
        rows = []
        for name, found in self.found.items():
            head = {"head": name} if len(self.found) > 1 else {}
            rows += [
                {**head, "image_id": image_id, **row, "file_name": self.file}
                for row in found.rows(self.model.heads[name].labels)
            ]
        return rows

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Boxes, with masks if there are some, as COCO's results json has them, category ids as in the data.

        Raises:
            UserError: no head finds boxes.
        """
        boxes = {name: found for name, found in self.found.items() if isinstance(found, FoundBoxes)}
        if not boxes:
            raise UserError("COCO results hold boxes and masks of objects; no head of this model finds any: use rows()")
        return [
            {"image_id": image_id, **row}
            for name, found in boxes.items()
            for row in found.rows(self.model.heads[name].labels)
        ]
