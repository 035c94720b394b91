"""The class of every pixel as a kind of target."""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from backbones.errors import UserError
from heads.contract import IGNORED, ImageSizes, Prediction, Reads, SemanticMasks
from tasks.data.annotations import Annotations
from tasks.data.semantic import semantic_masks
from tasks.drawing import Picture
from tasks.explanation.subject import Question, Subject
from tasks.label_map import LabelMap
from tasks.segmentation.draw import draw_masks
from tasks.segmentation.scorer import SegmentationScorer
from tasks.task import Scorer, Task


class SegmentationTask(Task):
    """Semantic segmentation."""

    reads: ClassVar[Reads] = "masks"
    scorer: ClassVar[type[Scorer]] = SegmentationScorer

    @staticmethod
    def require(annotations: Annotations) -> None:
        """Raise `UserError` when the split has neither mask files nor objects that were read with their outlines."""
        outlined = annotations.segments is not None and len(annotations.boxes) > 0
        if annotations.mask_files is None and not outlined:
            raise UserError(
                f"{annotations.report.source}: none of its {len(annotations)} images has a mask or an outlined object; "
                "a segmentation head learns from mask files or COCO json with segmentations; give it such data, "
                "or choose another head"
            )

    @staticmethod
    def draw_truth(picture: Picture, annotations: Annotations, index: int, labels: LabelMap) -> None:
        """Draw the annotated mask of image `index`."""
        files = annotations.mask_files
        masks = semantic_masks(
            annotations, index, picture.image_size, overlapping=files is not None and files.planes > 1
        )
        draw_masks(picture, masks.transpose(2, 0, 1), labels, IGNORED)

    @staticmethod
    def subjects(prediction: Prediction, sizes: ImageSizes, labels: LabelMap, question: Question) -> list[Subject]:
        """The mean logit of each class over its predicted area, the largest first.

        Vinogradova et al., arXiv:2002.11434, sum, which only scales most maps; a mean keeps all of them independent of
        the size of the area. A class that was asked for and is nowhere predicted is explained over the whole image.
        """
        assert isinstance(prediction, SemanticMasks)
        masks = prediction.masks
        overlapping = len(masks) > 1
        areas = [masks[label] == 1 if overlapping else masks[0] == label + 1 for label in range(len(labels))]
        shares = [float(area.float().mean()) for area in areas]
        order = sorted(range(len(labels)), key=lambda label: -shares[label])
        chosen = [label for label in order if shares[label] > 0][: question.top]
        if question.classes is not None:
            chosen = list(question.classes)
        subjects = []
        for label in chosen:
            area, title = areas[label], f"{labels.names[label]}, {shares[label]:.1%} of the image"
            if question.region is not None:
                left, top, right, bottom = question.region
                area = torch.zeros_like(area)
                area[top:bottom, left:right] = True
                if not area.any():
                    height, width = area.shape
                    raise UserError(f"region {left} {top} {right} {bottom} lies outside an image of {width} x {height}")
                title = f"{labels.names[label]} in {left} {top} {right} {bottom}"
            elif not shares[label]:
                area, title = torch.ones_like(area), f"{labels.names[label]}, not predicted"
            value = partial(_mean_logit, label, _in_batch(area, sizes))
            subjects.append(Subject(title, label, value, area=area))
        return subjects


def _in_batch(area: Tensor, sizes: ImageSizes) -> Tensor:
    """(H, W) how much of each pixel of the padded batch belongs to an area of its one image."""
    height, width = sizes.valid[0].tolist()
    share = F.interpolate(area[None, None].float(), (height, width), mode="area")[0, 0]
    return F.pad(share, (0, sizes.padded[1] - width, 0, sizes.padded[0] - height))


def _mean_logit(label: int, share: Tensor, logits: Tensor) -> Tensor:
    return (logits[label] * share).sum() / share.sum()
