"""Class activation maps: how much each cell of a feature map speaks for a class.

Shapes: C channels, h w cells. A map is negative where cells speak against the class; its positive part is
shown.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from tasks.explanation.arguments import Method

FUSION_SCALE = 2.0  # gamma of LayerCAM


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Channels weighed by their mean gradient (Selvaraju et al., arXiv:1610.02391, section 3).

    Args:
        activations: (C, h, w) the feature map.
        gradients: (C, h, w) of the class's logit with respect to it.

    Returns:
        (h, w).
    """
    return (gradients.mean(dim=(1, 2), keepdim=True) * activations).sum(dim=0)


def grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Channels weighed by their positive gradients, those of few cells more (Chattopadhyay et al., arXiv:1710.11063).

    The score is the exponential of the logit, as in section 3.2; it only scales the map and is left out. Arguments and
    result as of `grad_cam`.
    """
    squares = gradients.square()
    denominator = 2 * squares + activations.sum(dim=(1, 2), keepdim=True) * squares * gradients
    alpha = torch.where(denominator == 0, 0.0, squares / torch.where(denominator == 0, 1.0, denominator))
    return ((alpha * gradients.relu()).sum(dim=(1, 2), keepdim=True) * activations).sum(dim=0)


def layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Cells weighed by their own positive gradient (Jiang et al., LayerCAM, doi:10.1109/TIP.2021.3089943).

    Nothing is averaged, so that it serves the finer levels too. Arguments and result as of `grad_cam`.
    """
    return (gradients.relu() * activations).sum(dim=0)


def hires_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Cells weighed by their own gradient (Draelos and Carin, HiResCAM, arXiv:2011.08891).

    Where the logit is linear in the feature map, the cells add up to it, less its bias. Arguments and result as of
    `grad_cam`.
    """
    return (gradients * activations).sum(dim=0)


CLASS_ACTIVATION: Mapping[Method, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"gradcam": grad_cam, "gradcam++": grad_cam_plus_plus, "layercam": layer_cam, "hirescam": hires_cam}
)


def fuse(maps: Sequence[Tensor]) -> Tensor:
    """Maps (H, W) of several levels as one: the largest of each pixel after `tanh(2 map / max)` (LayerCAM).

    What is negative, and all of a map that is positive nowhere, counts as 0.
    """
    positive = [one.relu() for one in maps]
    return torch.stack([torch.tanh(FUSION_SCALE * one / one.max().clamp(min=1e-30)) for one in positive]).amax(dim=0)
