"""How much of the loss's gradient reaches each layer."""

from dataclasses import dataclass

import torch
from torch import nn

from tasks.data.sample import Batch
from tasks.model import Model


@dataclass(frozen=True, slots=True)
class LayerGradient:
    """The gradient at one convolution.

    Attributes:
        layer: its name in the backbone.
        norm: Euclidean norm of the loss's gradient by its weights.
        relative: the same over the norm of the weights: how far a step of rate 1 would move them.
    """

    layer: str
    norm: float
    relative: float


def gradient_flow(model: Model, batch: Batch) -> list[LayerGradient]:
    """The gradients of one batch's loss at the convolutions of the backbone, from the image to the head.

    In training mode, with the statistics of the batch, as a step would see them. Convolutions that only fit a shortcut
    to its sum are left out: they lie beside the path whose depth is in question.

    Args:
        model: to be measured, with a loss for the batch; its running statistics take the batch in.
        batch: on the model's device.
    """
    layers = {
        name: module.weight
        for name, module in model.backbone.named_modules()
        if isinstance(module, nn.Conv2d) and ".downsample." not in name
    }
    model.train()
    loss = torch.stack(list(model(batch).values())).sum()
    gradients = torch.autograd.grad(loss, list(layers.values()))
    return [
        LayerGradient(name, float(gradient.norm()), float(gradient.norm() / weight.detach().norm()))
        for (name, weight), gradient in zip(layers.items(), gradients, strict=True)
    ]
