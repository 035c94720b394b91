"""Scores masks: by the pixels of the whole split, and image by image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from heads.contract import IGNORED, Prediction, SemanticMasks
from tasks.config import Experiment
from tasks.data.annotations import Annotations
from tasks.data.semantic import semantic_masks
from tasks.image_results import Arrays, Kind
from tasks.label_map import LabelMap
from tasks.segmentation.image_scores import ImageScores, score_image
from tasks.segmentation.mask_measures import measure_masks
from tasks.segmentation.overlap import Counts, dice
from tasks.task import Scorer

Floats = npt.NDArray[np.float64]
SHOWN = 20  # classes that get a line of their own in the notes


class SegmentationScorer(Scorer):
    """IoU and Dice of pooled pixels; Dice, HD95 and surface Dice of each image.

    Pixels that are annotated as `IGNORED` take no part in anything, neither as truth nor as prediction.

    Pooled: the pixels of all images are counted together. `IoU/<class>`, `Dice/<class>`; `mIoU` and `Dice` are the
    means over the classes, background not among them; `mIoU_with_background` is over them and the background, as is
    usual for photographs. A class that is neither annotated nor predicted anywhere is left out of these means.
    `pixel_accuracy` is the share of pixels whose class is right, background included; of overlapping classes, the share
    over all their planes.

    Image by image, and of a volume slice by slice: `Dice_per_image/<class>`, `HD95/<class>` and `surface_Dice/<class>`
    are means over images, and the same names without a class are the means of those over the classes. A class that is
    neither annotated nor predicted in an image leaves that image out of the class's mean. One that is only annotated or
    only predicted counts with Dice 0, surface Dice 0 and, as HD95, the image's diagonal, which is the worst possible: a
    case that is missed altogether never improves a mean. `notes` says how often each of these happened.

    Lengths are in millimetres where the spacing of pixels is known (`data.spacing`, else the file), else in pixels.
    """

    kind: ClassVar[Kind] = "masks"

    def __init__(self, head: str, config: Experiment, annotations: Annotations, labels: LabelMap) -> None:
        super().__init__(head, config, annotations, labels)
        options = config.heads[head].factory_options()
        self.overlapping = options.get("target") == "multilabel"
        self.background = bool(options.get("background", True)) and not self.overlapping
        self.lower = frozenset(["HD95", *(f"HD95/{name}" for name in labels.names)])
        self.added: list[ImageScores] = []
        self.scored: list[ImageScores] = []

    @property
    def main_metric(self) -> str:
        """Dice of pooled pixels, mean over the classes."""
        return "Dice"

    @property
    def headline(self) -> tuple[str, ...]:
        """Two measures of area and one of distance."""
        return "Dice", "mIoU", "HD95"

    def names(self) -> list[str]:
        """The means, then each kind by class."""
        pooled = ["Dice", "mIoU", *(["mIoU_with_background"] if self.background else []), "pixel_accuracy"]
        by_image = ["Dice_per_image", "HD95", "surface_Dice"]
        by_class = [f"{kind}/{name}" for kind in ("Dice", "IoU", *by_image) for name in self.labels.names]
        return [*pooled, *by_image, *by_class]

    def reset(self) -> None:
        """Forget all images."""
        self.added = []

    def add(self, index: int, prediction: Prediction) -> None:
        """Compare the mask of image `index` with the annotated one.

        Raises:
            UserError: its mask file cannot be used.
            ValueError: a plug-in head gave masks that do not fit its classes.
        """
        assert isinstance(prediction, SemanticMasks)
        predicted, classes = prediction.masks.cpu().numpy(), len(self.labels)
        planes, highest = (classes, 1) if self.overlapping else (1, classes)
        if len(predicted) != planes or predicted.dtype != np.uint8 or predicted.max(initial=0) > highest:
            raise ValueError(
                f"head {self.head!r} gave {predicted.dtype} masks of {len(predicted)} planes and values up to "
                f"{predicted.max(initial=0)}; expected uint8, {planes} planes and values up to {highest}"
            )
        size = predicted.shape[1], predicted.shape[2]
        truth = np.ascontiguousarray(semantic_masks(self.annotations, index, size, self.overlapping).transpose(2, 0, 1))
        if not self.background and not self.overlapping:
            truth = np.where(truth == 0, np.uint8(IGNORED), truth)
        tolerance, spacing = self.config.metrics.surface_tolerance, self._spacing(index)
        self.added.append(score_image(index, truth, predicted, classes, self.overlapping, spacing, tolerance))

    def collected(self) -> list[ImageScores]:
        """The scores of each image: some numbers for each class, no masks."""
        return self.added

    def metrics(self, collected: Sequence[list[ImageScores]]) -> dict[str, float]:
        """Metric by name, as the class's description defines them; -1 where nothing could be measured."""
        # In the order of the split: sums of floats must not depend on the number of processes.
        self.scored = sorted((scores for part in collected for scores in part), key=lambda scores: scores.index)
        by_image = self._by_image()
        found = measure_masks(self._counts(), by_image["HD95"], by_image["surface_Dice"], self.labels.names)
        return {name: found[name] for name in self.names()}

    def arrays(self) -> Arrays:
        """`index` (I,) of the images in the split; `counts` (I, K + 1, 3), `hd95` and `surface_dice` (I, K) as in
        `ImageScores`; `confusion` (K + 1, K + 1) of all pixels, zeros where classes may overlap; `millimetres` (I,),
        where lengths are not in pixels.
        """
        matrix = np.zeros((len(self.labels) + 1, len(self.labels) + 1), np.int64)
        for scores in self.scored:
            truth, predicted, pixels = scores.pairs.T
            matrix[truth, predicted] += pixels
        by_image = self._by_image()
        return {
            "index": np.array([scores.index for scores in self.scored], np.int64),
            "counts": self._counts(),
            "hd95": by_image["HD95"],
            "surface_dice": by_image["surface_Dice"],
            "confusion": matrix,
            "millimetres": np.array([scores.millimetres for scores in self.scored], np.bool_),
        }

    def options(self) -> dict[str, Any]:
        """Whether classes may overlap, and whether there is a background."""
        return {"overlapping": self.overlapping, "background": self.background}

    def notes(self) -> list[str]:
        """The unit of lengths, and how many images each class was measured on."""
        measured = sum(scores.millimetres for scores in self.scored)
        tolerance = f"surface Dice at {self.config.metrics.surface_tolerance:g}"
        if measured == len(self.scored):
            unit = f"HD95 in mm, {tolerance} mm"
        elif not measured:
            unit = f"HD95 in pixels, {tolerance} px (no spacing is known: set data.spacing to have mm)"
        else:
            unit = (
                f"HD95 and {tolerance} mix mm ({measured} images) and pixels (the other {len(self.scored) - measured}, "
                "whose spacing is not known): set data.spacing to have mm throughout"
            )
        predicted, annotated = np.moveaxis(self._counts()[:, 1:, 1:] > 0, 2, 0)
        empty, missed, invented = (
            images.sum(axis=0) for images in (~predicted & ~annotated, ~predicted & annotated, predicted & ~annotated)
        )
        lines = [f"{unit}; a class missed altogether, or predicted where it is not, has Dice 0 and HD95 the diagonal"]
        for label, name in enumerate(self.labels.names[:SHOWN]):
            lines.append(
                f"{name}: in {len(self.scored) - empty[label]} of {len(self.scored)} images; "
                f"missed altogether in {missed[label]}, predicted where it is not in {invented[label]}"
            )
        if len(self.labels) > SHOWN:
            lines.append(f"... {len(self.labels) - SHOWN} more classes")
        return lines

    def draw(self, folder: Path) -> None:
        """How the Dice of single images is distributed, as `folder/<head>_dice.png`."""
        from tasks.segmentation.distribution import draw_distribution

        places = [self.annotations.describe(scores.index) for scores in self.scored]
        values = self._by_image()["Dice_per_image"]
        draw_distribution(folder / f"{self.head}_dice.png", "Dice of an image", values, self.labels, places)

    def _counts(self) -> Counts:
        """(I, K + 1, 3), as from `count_pixels`."""
        return np.array([scores.counts for scores in self.scored], np.int64).reshape(-1, len(self.labels) + 1, 3)

    def _by_image(self) -> dict[str, Floats]:
        """(I, K) of each metric that is measured on images; NaN where a class is not in an image."""
        shape = (len(self.scored), len(self.labels))
        return {
            "Dice_per_image": dice(self._counts())[:, 1:],
            "HD95": np.array([scores.hd95 for scores in self.scored]).reshape(shape),
            "surface_Dice": np.array([scores.surface_dice for scores in self.scored]).reshape(shape),
        }

    def _spacing(self, index: int) -> tuple[float, float] | None:
        """Millimetres between the pixels of an image, down and across, or None."""
        from tasks.data.files.image_file import read_spacing

        data = self.annotations
        if self.config.data.spacing is not None or data.pixels is not None:
            return self.config.data.spacing
        return read_spacing(data.file(index), data.frame(index), data.slice_axis)
