"""Which changes of images go with one another, and with the targets and the annotations of a run."""

import numpy as np

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.augmentation.augment import resized_crop_size
from tasks.data.wanted import Wanted


def require_fitting(config: DataConfig, wanted: Wanted) -> None:
    """Raise `UserError` when changes of images do not go with one another or with the targets that are wanted."""
    augment = config.augment
    elsewhere = [name for name, on in (("boxes", wanted.boxes or wanted.outlines), ("masks", wanted.masks)) if on]
    if config.center_crop is not None and elsewhere:
        raise UserError(
            f"data.center_crop is {config.center_crop}, but a head predicts {elsewhere[0]}, which are evaluated on the "
            "whole image; expected None: use data.size, or data.augment.crop for training"
        )
    if config.size and config.center_crop and any(np.greater(config.center_crop, config.size)):
        raise UserError(f"data.center_crop is {config.center_crop}; expected at most data.size, {config.size}")
    for name, alpha in (("mixup", augment.mixup), ("cutmix", augment.cutmix)):
        if alpha and (elsewhere or wanted.labels is None):
            raise UserError(
                f"data.augment.{name} is {alpha:g}, but a head learns from {' and '.join(elsewhere) or 'no labels'}; "
                "expected 0: only labels of whole images can be mixed"
            )
    if augment.cutmix and wanted.labels == "regression":
        raise UserError(
            f"data.augment.cutmix is {augment.cutmix:g}, but labels are numbers of a regression, which a pasted part "
            "does not change by its area; expected 0: use data.augment.mixup"
        )
    if augment.random_resized_crop:
        resized_crop_size(config)
        for name, other in (("crop", augment.crop), ("scale_jitter", augment.scale_jitter)):
            if other is not None:
                raise UserError(
                    f"data.augment.{name} is {other} and data.augment.random_resized_crop is "
                    f"{augment.random_resized_crop}; expected one of them: set the other to None"
                )
    if augment.crop_padding and augment.crop is None:
        raise UserError(
            f"data.augment.crop_padding is {augment.crop_padding}, but data.augment.crop is None; expected a crop that "
            "reaches over the edges: set it too"
        )
    for name, share in (("mosaic", augment.mosaic), ("copy_paste", augment.copy_paste)):
        if share and (wanted.labels is not None or not elsewhere):
            raise UserError(
                f"data.augment.{name} is {share:g}, but a head learns from labels of whole images, which an image made "
                "of several has none of; expected 0: only boxes and masks can be joined"
            )
    if augment.close_mosaic and not augment.mosaic:
        raise UserError(
            f"data.augment.close_mosaic is {augment.close_mosaic}, but data.augment.mosaic is 0; expected a mosaic to "
            "close: set that too"
        )


def require_outlines_to_paste(config: DataConfig, train: Annotations) -> None:
    """Raise `UserError` when objects are to be pasted and none has an outline."""
    share = config.augment.copy_paste
    if share and (train.segments is None or not train.segments.drawn(slice(0, len(train.boxes))).any()):
        raise UserError(
            f"{train.report.source}: no object of the split {train.split!r} has an outline, by which "
            f"data.augment.copy_paste ({share:g}) cuts objects out; expected COCO json with segmentations: give such "
            "data, or set it to 0"
        )
