"""Gradients keep the memory format of the maps, and their values."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from backbones import build_backbone
from heads import DeepLabV3Plus, SegmentationHead, UNet
from heads.contract import ImageSizes
from heads.dense_gradients import DenseGradients, dense_gradient


def joined(coarse: Tensor, fine: Tensor) -> Tensor:
    """As decoders join a coarse level, an unread finer one, and the mean over the whole map."""
    height, width = fine.shape[-2:]
    parts = [F.interpolate(coarse, (height, width), mode="nearest"), fine]
    mean = F.interpolate(F.adaptive_avg_pool2d(fine, 1), (height, width), mode="bilinear")
    return torch.cat([*parts, mean], dim=1)


def test_values_are_those_of_plain_gradients() -> None:
    torch.manual_seed(0)
    coarse, fine = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 8, 12)
    factors = torch.randn(2, 13, 8, 12)
    gradients = []
    for dense in (False, True):
        leaves = [values.clone(memory_format=torch.channels_last).requires_grad_() for values in (coarse, fine)]
        if dense:
            with DenseGradients():
                output = joined(leaves[0], dense_gradient(leaves[1]))
        else:
            output = joined(*leaves)
        gradients.append(torch.autograd.grad((output * factors).sum(), leaves))
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("head", "stride"), [(UNet, 32), (DeepLabV3Plus, 16)])
def test_all_gradients_that_leave_a_decoder_are_dense(head: type[SegmentationHead], stride: int) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", output_stride=stride)
    decoder = head(backbone.features, 2)
    images = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    features = {
        name: level.detach().requires_grad_()
        for name, level in backbone.to(memory_format=torch.channels_last)(images).items()
    }
    seen = []
    for level in features.values():
        level.register_hook(lambda gradient: seen.append(gradient.is_contiguous(memory_format=torch.channels_last)))
    size = torch.full((2, 2), 64)
    logits = decoder.to(memory_format=torch.channels_last).logits(features, ImageSizes((64, 64), size, size))
    torch.autograd.backward(logits.square().sum())
    assert len(seen) >= 2
    assert all(seen)
