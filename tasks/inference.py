"""From models to predictions: one pass, or the average over windows, mirrored and scaled copies, and several models."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from backbones.errors import UserError
from heads import Detections, Prediction, ScoringHead
from heads.box_fusion import fuse_detections
from heads.contract import ImageSizes
from tasks.config import InferenceConfig
from tasks.data.sample import Batch
from tasks.model import Model
from tasks.sliding_window import window_scores

Flips = tuple[int, ...]  # of the dimensions of (C, H, W)


class Predictor:
    """Predicts batches as a config says.

    Args:
        models: with the same heads; their scores are averaged, their boxes fused.
        config: windows and test-time augmentation.

    Raises:
        UserError: something is to be averaged that a head does not give.
    """

    def __init__(self, models: Sequence[Model], config: InferenceConfig) -> None:
        self.models, self.config = models, config
        mirrored = [()] if not config.mirror else _combinations(config.mirror)
        self.views: list[tuple[Flips, float]] = list(product(mirrored, config.scales))
        averaged = {
            "inference.window": config.window is not None,
            "inference.mirror": bool(config.mirror),
            "inference.scales": config.scales != (1.0,),
        }
        self.plain = len(models) == 1 and not any(averaged.values())
        for what, asked in averaged.items():
            for name, head in models[0].heads.items():
                if asked and not isinstance(head, ScoringHead):
                    raise UserError(
                        f"{what} averages scores, which the head {name!r} ({type(head).__name__}) does not give; "
                        "use it with heads for labels or masks"
                    )

        if config.window is not None and all(head.reads == "labels" for head in models[0].scoring_heads().values()):
            raise UserError(
                f"inference.window is {config.window}, but labels are of whole images, which windows do not change; "
                "leave it out, or use it with a head for masks"
            )

    def __call__(self, batch: Batch) -> Mapping[str, Sequence[Prediction]]:
        """Predictions of every head by its name, one an image, in pixels of the original images."""
        for model in self.models:
            model.eval()
        if self.plain:
            return self.models[0].predict(batch)
        totals: dict[str, Tensor] = {}
        for (flips, scale), model in product(self.views, self.models):
            view = _view(batch, flips, scale, model.divisor)
            for name, scores in self._scores(model, view).items():
                restored = _restore(scores, view.sizes, batch.sizes, flips)
                totals[name] = totals[name] + restored if name in totals else restored
        count = len(self.views) * len(self.models)
        heads = self.models[0].scoring_heads()
        found = {name: heads[name].decide(total / count, batch.sizes) for name, total in totals.items()}
        if len(heads) < len(self.models[0].heads):
            found |= self._fused(batch)
        return found

    def part(self, names: Collection[str]) -> "Predictor":
        """The same for some of the heads."""
        return Predictor([model.part(names) for model in self.models], self.config)

    def _fused(self, batch: Batch) -> dict[str, Sequence[Prediction]]:
        """Detections of the heads that give boxes, of all models together."""
        each = [model.predict(batch) for model in self.models]
        names = self.models[0].heads.keys() - self.models[0].scoring_heads().keys()
        return {
            name: [
                fuse_detections([one for one in found if isinstance(one, Detections)])
                for found in zip(*(predictions[name] for predictions in each), strict=True)
            ]
            for name in names
        }

    def _scores(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        if self.config.window is None:
            return model.scores(batch)
        maps = window_scores(_pixel_scores(model), batch, self.config, model.divisor)
        if maps.keys() == model.heads.keys():
            return maps
        return {**model.scores(batch), **maps}  # labels are of the whole image


def _pixel_scores(model: Model) -> Callable[[Batch], dict[str, Tensor]]:
    return lambda batch: {name: scores for name, scores in model.scores(batch).items() if scores.ndim == 4}


def _combinations(mirror: Sequence[str]) -> list[Flips]:
    """Every set of mirrorings, from none to all."""
    axes = sorted({"horizontal": 2, "vertical": 1}[name] for name in mirror)
    flips: list[Flips] = [()]
    for axis in dict.fromkeys(axes):
        flips += [(*flip, axis) for flip in flips]
    return flips


def _view(batch: Batch, flips: Flips, scale: float, divisor: int) -> Batch:
    """The batch with every image (not its padding) scaled and mirrored."""
    if not flips and scale == 1:
        return batch
    sizes = (batch.sizes.valid * scale).round().long().clamp(min=1)
    height, width = ((int(side) + divisor - 1) // divisor * divisor for side in sizes.amax(0))
    images = batch.images.new_zeros((len(batch), batch.images.shape[1], height, width), dtype=torch.float32).contiguous(
        memory_format=torch.channels_last
    )
    for image, target, before, after in zip(
        batch.images, images, batch.sizes.valid.tolist(), sizes.tolist(), strict=True
    ):
        own = image[:, : before[0], : before[1]].float()
        target[:, : after[0], : after[1]] = _resize(own, after).flip(flips)
    return replace(batch, images=images, sizes=ImageSizes((height, width), sizes, batch.sizes.original))


def _restore(scores: Tensor, view: ImageSizes, batch: ImageSizes, flips: Flips) -> Tensor:
    """Scores of a view as scores of the batch it was made from; those of whole images stay what they are."""
    if scores.ndim == 2 or view is batch:
        return scores
    restored = scores.new_zeros((*scores.shape[:2], *batch.padded))
    for own, target, after, before in zip(scores, restored, view.valid.tolist(), batch.valid.tolist(), strict=True):
        target[:, : before[0], : before[1]] = _resize(own[:, : after[0], : after[1]].flip(flips), before)
    return restored


def _resize(image: Tensor, size: Sequence[int]) -> Tensor:
    if list(image.shape[1:]) == list(size):
        return image
    return F.interpolate(image[None], size=tuple(size), mode="bilinear", align_corners=False)[0]
