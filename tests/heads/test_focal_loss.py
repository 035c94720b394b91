import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from heads.focal_loss import focal_loss_sum, quality_focal_loss_sum


def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, labels, and which entries are positive and negative; some are neither."""
    torch.manual_seed(0)
    logits = (3 * torch.randn(2, 40, 5)).requires_grad_()
    kind = torch.randint(0, 3, (2, 40))
    return logits, torch.randint(-1, 5, (2, 40)), kind == 0, kind == 1


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 1.5)])
def test_focal_loss_equals_torchvision(alpha: float, gamma: float) -> None:
    logits, labels, positive, negative = case()
    labels = labels.clamp(min=0)
    loss = focal_loss_sum(logits, labels, positive, negative, alpha, gamma)
    wanted = F.one_hot(labels, 5).float() * positive[..., None]
    counted = positive | negative
    expected = [
        sigmoid_focal_loss(own[used], truth[used], alpha, gamma, "sum")
        for own, truth, used in zip(logits, wanted, counted, strict=True)
    ]
    torch.testing.assert_close(loss, torch.stack(expected))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    (wanted_gradient,) = torch.autograd.grad(sum(expected), logits)
    torch.testing.assert_close(gradient, wanted_gradient)
    assert not gradient[~counted].any()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_certainty_has_no_infinite_slope(gamma: float) -> None:
    logits = torch.tensor([[[200.0, -200.0]]], requires_grad=True)
    yes, no = torch.tensor([[True]]), torch.tensor([[False]])
    focal_loss_sum(logits, torch.tensor([[0]]), yes, no, 0.25, gamma).sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_quality_focal_loss_is_its_formula(beta: float) -> None:
    logits, labels, positive, negative = case()
    logits = logits.detach().double().requires_grad_()
    quality = torch.rand(2, 40, 5).double() * F.one_hot(labels.clamp(min=0), 5) * positive[..., None]
    counted = positive | negative
    loss = quality_focal_loss_sum(logits, quality, counted, beta)
    expected = 0.0
    for p, y, used in zip(logits.sigmoid().flatten(0, 1), quality.flatten(0, 1), counted.flatten(), strict=True):
        if used:
            expected = expected - ((y - p).abs() ** beta * ((1 - y) * (1 - p).log() + y * p.log())).sum()
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, logits)
    (wanted,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, wanted)


def test_quality_focal_loss_is_least_at_the_quality() -> None:
    logits = torch.linspace(-4, 4, 801)[None, :, None]
    losses = [
        quality_focal_loss_sum(one[None, None], torch.full((1, 1, 1), 0.7), torch.ones(1, 1, dtype=torch.bool), 2.0)
        for one in logits[0]
    ]
    assert logits[0, int(torch.stack(losses).argmin())].sigmoid() == pytest.approx(0.7, abs=0.01)
