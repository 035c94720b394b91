"""What all exported files have in common: images go in as a padded batch, and arrays come out, by name.

A graph takes `images` (B, C, H, W), stored values, uint8 or float32, and `sizes` (B, 2) int64, the height and width of
each image in it. It gives for each head, by "<head>/<output>":
    boxes   `boxes` (B, D, 4) float32 x1 y1 x2 y2 in pixels of the batch, `scores` (B, D) float32, 0 where there is no
            more, `labels` (B, D) int64, and of instances `cells` (B, D, M, M) float32
    labels  `scores` (B, K) float32
    masks   `scores` (B, S, H, W) float32
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt

from tasks.data.files.image_file import Pixels
from tasks.prediction.description import HeadDescription, ModelDescription
from tasks.prediction.engine import Engine
from tasks.prediction.found import Found
from tasks.prediction.found_boxes import FoundBoxes
from tasks.prediction.found_labels import FoundLabels, Target
from tasks.prediction.found_masks import FoundMasks
from tasks.prediction.preparing import Images, Sizes, pad_batch, prepare

Arrays = Mapping[str, npt.NDArray[Any]]


def output_names(description: ModelDescription) -> list[str]:
    """Names of the outputs of an exported graph, in order."""
    names = []
    for name, head in description.heads.items():
        if head.kind == "boxes":
            names += [f"{name}/{output}" for output in ("boxes", "scores", "labels", "cells")[: 3 + head.instances]]
        else:
            names.append(f"{name}/scores")
    return names


class ExportedEngine(Engine):
    """An exported graph as an engine; a subclass runs it.

    Args:
        description: that travels with it.
    """

    def __init__(self, description: ModelDescription) -> None:
        self.description = description

    @abstractmethod
    def run(self, images: Images, sizes: Sizes) -> Arrays:
        """Outputs of the graph by name."""

    def batch(self, images: Sequence[Pixels]) -> tuple[Images, Sizes]:
        """Stored pixels of images as the graph takes them."""
        data = self.description.data
        return pad_batch(
            [prepare(image, data) for image in images], self.description.divisor, self.description.fixed_size
        )

    def predict(self, images: Sequence[Pixels]) -> list[Mapping[str, Found]]:
        """See `Engine`."""
        batch, sizes = self.batch(images)
        outputs = self.run(batch, sizes)
        original = np.array([image.shape[:2] for image in images], np.int64)
        return [self.found(outputs, row, sizes[row], original[row]) for row in range(len(images))]

    def found(
        self, outputs: Arrays, row: int, size: npt.NDArray[np.int64], original: npt.NDArray[np.int64]
    ) -> Mapping[str, Found]:
        """What each head finds in one image of a batch.

        Args:
            outputs: of the graph.
            row: which image.
            size: (height, width) of it in the batch.
            original: (height, width) of it before.
        """
        found: dict[str, Found] = {}
        for name, head in self.description.heads.items():
            prefix = f"{name}/"
            own = {key.removeprefix(prefix): one[row] for key, one in outputs.items() if key.startswith(prefix)}
            match head.kind:
                case "boxes":
                    found[name] = _boxes(own, size, original)
                case "labels":
                    assert head.target in get_args(Target)
                    found[name] = FoundLabels(own["scores"].astype(np.float32), head.target)  # type: ignore[arg-type]
                case "masks":
                    found[name] = _masks(own["scores"], head, size, original)
        return found


def _boxes(own: Arrays, size: npt.NDArray[np.int64], original: npt.NDArray[np.int64]) -> FoundBoxes:
    there = own["scores"] > 0
    y, x = (original.astype(np.float32) / size.astype(np.float32)).tolist()
    ratio = np.array([x, y, x, y], np.float32)
    cells = own["cells"][there].astype(np.float32) if "cells" in own else None
    height, width = original.tolist()
    return FoundBoxes(
        own["boxes"][there].astype(np.float32) * ratio,
        own["scores"][there].astype(np.float32),
        own["labels"][there],
        (height, width),
        cells,
    )


def _masks(
    scores: npt.NDArray[Any], head: HeadDescription, size: npt.NDArray[np.int64], original: npt.NDArray[np.int64]
) -> FoundMasks:
    """The scores (S, H, W) of one image are resized before the decision, as in `SegmentationHead.decide`."""
    height, width = original.tolist()
    resized = np.stack(
        [
            cv2.resize(
                np.ascontiguousarray(own[: size[0], : size[1]], np.float32),
                (width, height),
                interpolation=cv2.INTER_LINEAR,
            )
            for own in scores
        ]
    )
    if head.target == "multiclass":
        return FoundMasks((resized.argmax(axis=0)[None] + (not head.background)).astype(np.uint8))
    return FoundMasks((resized > head.threshold).astype(np.uint8))
