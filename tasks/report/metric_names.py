"""What the metrics are called for people, and what each of them tells."""

import re
from collections.abc import Collection

OVERLAP = "mean over IoU 0.50 to 0.95 and the classes"
MEANINGS = {
    # boxes, as COCO defines them
    "AP": f"average precision, {OVERLAP}",
    "AP50": "average precision at an IoU of 0.5: found, if only roughly in place",
    "AP75": "average precision at an IoU of 0.75: closely in place",
    "APs": "AP of small objects, below 32 x 32 px",
    "APm": "AP of medium objects, to 96 x 96 px",
    "APl": "AP of large objects",
    "AR1": f"share of objects found by the best box of each image, {OVERLAP}",
    "AR10": f"share of objects found by the best 10 boxes, {OVERLAP}",
    "AR100": f"share of objects found by the best 100 boxes, {OVERLAP}",
    "ARs": "AR100 of small objects",
    "ARm": "AR100 of medium objects",
    "ARl": "AR100 of large objects",
    "FROC": "mean sensitivity at the rates of false positives below",
    # masks
    "Dice": "overlap of all pixels together, 2 x common / (annotated + predicted), mean of the classes",
    "mIoU": "common pixels / pixels that are annotated or predicted, mean of the classes",
    "mIoU_with_background": "the same with the background as one more class",
    "Dice_per_image": "mean of the Dice of single images; a missed one counts 0",
    "HD95": "distance that 95 % of the contours keep within, mean of the images",
    "surface_Dice": "share of the contours within the tolerance of metrics.surface_tolerance, mean of the images",
    "pixel_accuracy": "share of pixels of the right class, background included",
    # labels
    "balanced_accuracy": "share of right images in each class, mean of the classes",
    "accuracy": "share of right images",
    "AUROC": "chance that an image of a class scores higher than one of another; 0.5 is guessing",
    "mAP": "average precision, mean of the classes",
    "F1": "harmonic mean of precision and recall, mean of the classes",
    "F1_micro": "F1 of all decisions together",
    "exact_match": "share of images with every label right",
    "ECE": "how far probabilities are from how often they come true, on average",
    "top5": "share of images whose class is among the five most probable ones",
    "QWK": "quadratically weighted kappa: agreement beyond chance, where far grades count more; 1 is perfect",
    "MAE": "mean distance from the annotated number, or grade",
    "RMSE": "root of the mean squared distance; large errors count more",
    "R2": "share of the variation that is explained; 0 is no better than the mean",
    "Pearson": "linear correlation with the annotated numbers",
}  # fmt: skip
RANKED = {"AP": "average precision: mean precision over all thresholds"}  # of labels, where IoU has no say


def spelled(name: str) -> str:
    """A metric's name as it is read: `balanced_accuracy` is "balanced accuracy"."""
    return name.replace("_", " ").replace("/", ": ", 1)


def meaning(name: str, kind: str, lower: Collection[str]) -> str:
    """What a metric tells, in a line; empty of one that is not ours.

    Args:
        name: of an overall metric, without its head.
        kind: of the results, see `ImageResults.kind`.
        lower: metrics that are better when lower.
    """
    masks = name.startswith("segm ")
    plain = name.removeprefix("segm ")
    told = (RANKED if kind == "labels" else {}).get(plain) or MEANINGS.get(plain, "")
    if rate := re.fullmatch(r"sensitivity@(.+)FP", plain):
        told = f"share of objects found with {rate[1]} false positives an image"
    if masks and told:
        told = f"of the masks: {told}"
    return f"{told}; lower is better" if told and name in lower else told
