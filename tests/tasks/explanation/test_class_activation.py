"""The formulas against loops and against derivatives taken by autograd."""

import math

import pytest
import torch
from torch import Tensor

from tasks.explanation.class_activation import fuse, grad_cam, grad_cam_plus_plus, hires_cam, layer_cam

CHANNELS, HEIGHT, WIDTH = 3, 4, 5
CELLS = [(k, i, j) for k in range(CHANNELS) for i in range(HEIGHT) for j in range(WIDTH)]


@pytest.fixture
def activations() -> Tensor:
    return torch.rand(CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def gradients() -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn(CHANNELS, HEIGHT, WIDTH, generator=random, dtype=torch.float64)


def test_weights_of_each_method(activations: Tensor, gradients: Tensor) -> None:
    """One cell at a time, in plain numbers."""
    means = [gradients[k].sum().item() / (HEIGHT * WIDTH) for k in range(CHANNELS)]
    expected = {name: torch.zeros(HEIGHT, WIDTH, dtype=torch.float64) for name in ("grad", "layer", "hires")}
    for k, i, j in CELLS:
        own, slope = activations[k, i, j].item(), gradients[k, i, j].item()
        expected["grad"][i, j] += means[k] * own
        expected["layer"][i, j] += max(slope, 0) * own
        expected["hires"][i, j] += slope * own
    torch.testing.assert_close(grad_cam(activations, gradients), expected["grad"])
    torch.testing.assert_close(layer_cam(activations, gradients), expected["layer"])
    torch.testing.assert_close(hires_cam(activations, gradients), expected["hires"])


def test_grad_cam_plus_plus_by_higher_derivatives(activations: Tensor, gradients: Tensor) -> None:
    """Equations 10 and 5 of the paper with the derivatives of exp(logit) taken one by one, of a linear logit."""
    cells = activations.clone().requires_grad_()
    score = ((cells * gradients).sum() - (activations * gradients).sum()).exp()  # exp(0) = 1: a factor that is left out
    (first,) = torch.autograd.grad(score, cells, create_graph=True)
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.float64)
    weights = [0.0] * CHANNELS
    for k, i, j in CELLS:
        (second,) = torch.autograd.grad(first[k, i, j], cells, create_graph=True)
        (third,) = torch.autograd.grad(second[k, i, j], cells, retain_graph=True)
        total = activations[k].sum().item() * third[k, i, j].item()
        alpha = second[k, i, j].item() / (2 * second[k, i, j].item() + total)
        weights[k] += alpha * max(first[k, i, j].item(), 0)
    for k in range(CHANNELS):
        expected += weights[k] * activations[k]
    torch.testing.assert_close(grad_cam_plus_plus(activations, gradients), expected)


def test_grad_cam_plus_plus_of_cells_without_gradient(activations: Tensor) -> None:
    assert torch.equal(
        grad_cam_plus_plus(activations, torch.zeros_like(activations)), torch.zeros(HEIGHT, WIDTH).double()
    )


def test_fused_levels() -> None:
    coarse, fine = torch.tensor([[0.0, 4.0], [2.0, -9.0]]), torch.tensor([[1.0, 0.1], [0.0, 0.2]])
    expected = [[math.tanh(2), math.tanh(2)], [math.tanh(1), math.tanh(0.4)]]
    torch.testing.assert_close(fuse([coarse, fine]), torch.tensor(expected))
    assert torch.equal(fuse([torch.full((2, 2), -1.0), torch.zeros(2, 2)]), torch.zeros(2, 2))
