"""Whether an exported file gives what PyTorch gives, image by image, output by output."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.data.files.image_file import Pixels
from tasks.prediction.description import ModelDescription
from tasks.prediction.engine import Engine
from tasks.prediction.found import Found
from tasks.prediction.found_boxes import FoundBoxes
from tasks.prediction.found_labels import FoundLabels
from tasks.prediction.found_masks import FoundMasks

# Of boxes in pixels of the original image; of scores, probabilities and cells of masks; of numbers, as a share of them;
# of masks, the share of the pixels of an image.
TOLERANCES = {"boxes": 0.5, "scores": 1e-3, "cells": 1e-3, "values": 1e-3, "pixels": 1e-3}
MISSING = 0.05  # share of the detections of both sides that may have no counterpart


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two results for one output of one image are apart.

    Attributes:
        image: its name.
        output: "<head>/<output>".
        value: the largest difference, or for "<head>/missing" how many detections have no counterpart.
        tolerance: it may be as large as this.
    """

    image: str
    output: str
    value: float
    tolerance: float

    @property
    def passes(self) -> bool:
        """Whether it is within the tolerance; what is no number is not."""
        return self.value <= self.tolerance


def compare(reference: Engine, exported: Engine, images: Iterable[tuple[str, Pixels]]) -> list[Difference]:
    """The differences of each output of each image.

    Args:
        reference: PyTorch.
        exported: the file.
        images: name and stored pixels of each.
    """
    differences = []
    for name, pixels in images:
        (expected,), (found,) = reference.predict([pixels]), exported.predict([pixels])
        differences += image_differences(name, expected, found, reference.description)
    return differences


def image_differences(
    image: str, expected: Mapping[str, Found], found: Mapping[str, Found], model: ModelDescription
) -> list[Difference]:
    """The differences of each output of one image."""
    differences = []
    for head, own in expected.items():
        other = found[head]
        values: dict[str, float] = {}
        match own, other:
            case FoundBoxes(), FoundBoxes():
                values = detection_differences(own, other)
            case FoundLabels(), FoundLabels():
                apart = np.abs(own.scores - other.scores)
                if model.heads[head].target == "regression":
                    values = {"values": _largest(apart / np.maximum(np.abs(own.scores), 1))}
                else:
                    values = {"scores": _largest(apart)}
            case FoundMasks(), FoundMasks():
                values = {"pixels": float((own.planes != other.planes).any(axis=0).mean())}
        for output, value in values.items():
            tolerance = _flips(own, other) if output == "missing" else TOLERANCES[output]
            differences.append(Difference(image, f"{head}/{output}", value, tolerance))
    return differences


def detection_differences(expected: FoundBoxes, found: FoundBoxes) -> dict[str, float]:
    """The largest difference of boxes, scores and cells of detections that belong together, and how many do not.

    Each detection, the best first, takes the one of its class that is nearest, if both box and score are within ten
    times the tolerance. One that has no counterpart is missing, unless it is no better than the worst that was kept by
    either side, give or take the tolerance of a score: which of those is kept, rounding decides.
    """
    left = np.ones(len(found), bool)
    apart: dict[str, list[float]] = {"boxes": [0.0], "scores": [0.0]}
    if expected.cells is not None:
        apart["cells"] = [0.0]
    both = np.concatenate([expected.scores, found.scores])
    worst = float(max((one.scores.min() for one in (expected, found) if len(one)), default=0.0))
    missing = 0
    for row in range(len(expected)):
        boxes = np.abs(found.boxes - expected.boxes[row]).max(axis=1, initial=0.0)
        scores = np.abs(found.scores - expected.scores[row])
        near = left & (found.labels == expected.labels[row])
        near &= (boxes <= 10 * TOLERANCES["boxes"]) & (scores <= 10 * TOLERANCES["scores"])
        if not near.any():
            missing += bool(expected.scores[row] > worst + TOLERANCES["scores"])
            continue
        distance = boxes / TOLERANCES["boxes"] + scores / TOLERANCES["scores"]
        chosen = int(np.where(near, distance, np.inf).argmin())
        left[chosen] = False
        apart["boxes"].append(float(boxes[chosen]))
        apart["scores"].append(float(scores[chosen]))
        if expected.cells is not None and found.cells is not None:
            apart["cells"].append(_largest(np.abs(expected.cells[row] - found.cells[chosen])))
    missing += int((found.scores[left] > worst + TOLERANCES["scores"]).sum()) if len(both) else 0
    return {output: max(values) for output, values in apart.items()} | {"missing": float(missing)}


def summary(differences: list[Difference]) -> list[Difference]:
    """The largest difference of each output, with the image that has it."""
    worst: dict[str, Difference] = {}
    for one in differences:
        # Not a number is worse than all.
        if one.output not in worst or not one.value <= worst[one.output].value:
            worst[one.output] = one
    return list(worst.values())


def require_parity(differences: list[Difference], source: object) -> None:
    """Raise `UserError` that names the outputs, images and differences above tolerance."""
    failing = [one for one in summary(differences) if not one.passes]
    if failing:
        count = len({one.image for one in differences if not one.passes})
        told = "; ".join(
            f"{one.output} differs by {one.value:.3g} in {one.image} (tolerance {one.tolerance:g})" for one in failing
        )
        raise UserError(
            f"{source} does not give what PyTorch gives in {count} of "
            f"{len({one.image for one in differences})} images: {told}; do not use it"
        )


def _flips(expected: Found, found: Found) -> float:
    """How many detections of an image may lack a counterpart.

    Where two boxes overlap by the threshold of suppression, or two scores are equal, rounding decides which is kept; it
    exchanges one detection for another, which leaves one without a counterpart on either side.
    """
    assert isinstance(expected, FoundBoxes)
    assert isinstance(found, FoundBoxes)
    return max(2.0, MISSING * (len(expected) + len(found)))


def _largest(values: npt.NDArray[np.floating]) -> float:
    return float(values.max()) if values.size else 0.0
