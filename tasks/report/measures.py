"""The metrics of kept results, of images that are there any number of times."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from tasks.classification.label_measures import LabelMeasures
from tasks.detection.evaluation_of import evaluation_of
from tasks.detection.resampled_ap import resampled_ap
from tasks.image_results import ImageResults
from tasks.report.resampling import Measure, Weights
from tasks.segmentation.mask_measures import measure_masks

WORK = 4e8  # about the numbers that a bootstrap may look at, which takes some seconds
FEWEST = 100


def scored_images(results: ImageResults) -> list[str]:
    """Names of the images that weights are of: all, but those without a label where labels are scored."""
    if results.kind in ("boxes", "instances"):
        return list(results.images)
    return [results.images[row] for row in results.arrays["index"].tolist()]


def measure_of(results: ImageResults) -> Measure:
    """A function from weights (I,) of `scored_images` to metrics, among them all by class; weights of one give those
    that were logged.
    """
    arrays, labels = results.arrays, results.labels
    match results.kind:
        case "boxes":
            return _boxes(results)
        case "instances":
            boxes = _boxes(results)
            masks = evaluation_of(results, "segm").matches
            return lambda weights: {
                **{f"segm {name}": own for name, own in resampled_ap(masks, weights).items()},
                **boxes(weights),
            }
        case "masks":

            def measure(weights: Weights) -> Mapping[str, float]:
                rows = _rows(weights)
                counts, hd95, close = (arrays[name][rows] for name in ("counts", "hd95", "surface_dice"))
                found = measure_masks(counts, hd95, close, labels.names)
                return {name: found[name] for name in results.metrics}

            return measure
        case "labels":
            measures = LabelMeasures(labels, results.options["target"])
            return lambda weights: measures(arrays["truth"][_rows(weights)], arrays["scores"][_rows(weights)])


def affordable(results: ImageResults, asked: int) -> int:
    """Draws for a bootstrap: as many as were asked for, fewer of many results, so that it takes no more than some
    seconds.
    """
    arrays = results.arrays
    match results.kind:
        case "boxes" | "instances":
            work = 40.0 * len(arrays["found"])  # thresholds and areas
        case "masks":
            work = 3.0 * arrays["counts"].size
        case "labels":
            work = 10.0 * arrays["scores"].size
    return max(min(asked, FEWEST), min(asked, int(WORK / max(work, 1.0))))


def _boxes(results: ImageResults) -> Measure:
    return partial(resampled_ap, evaluation_of(results, "bbox").matches)


def _rows(weights: Weights) -> Weights:
    return np.repeat(np.arange(len(weights)), weights)
