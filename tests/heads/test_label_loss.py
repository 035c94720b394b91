from collections.abc import Callable

import pytest
import torch
from coral_pytorch.dataset import levels_from_labelbatch
from coral_pytorch.losses import coral_loss as reference_coral_loss
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from heads.label_loss import coral_loss, sigmoid_loss, softmax_loss

B, K = 9, 5
ONES = torch.ones(K)


@pytest.fixture
def logits() -> Tensor:
    torch.manual_seed(0)
    return (torch.randn(B, K) * 4).requires_grad_()


def one_hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels, K).float()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [ONES, torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0])])
def test_cross_entropy_is_torchs(logits: Tensor, smoothing: float, weights: Tensor) -> None:
    labels = torch.randint(K, (B,))
    for shares, target in ((one_hot(labels), labels), (mixed := torch.rand(B, K).softmax(1), mixed)):
        expected = F.cross_entropy(logits, target, weights, reduction="none", label_smoothing=smoothing)
        torch.testing.assert_close(softmax_loss(logits, shares, weights, smoothing, 0.0), expected)


def test_binary_cross_entropy_is_torchs(logits: Tensor) -> None:
    shares, weights = torch.rand(B, K), torch.rand(K) * 3
    expected = F.binary_cross_entropy_with_logits(logits, shares, pos_weight=weights, reduction="none").mean(1)
    torch.testing.assert_close(sigmoid_loss(logits, shares, weights, 0.0, 0.0), expected)
    smoothed = F.binary_cross_entropy_with_logits(logits, 0.8 * shares + 0.1, reduction="none").mean(1)
    torch.testing.assert_close(sigmoid_loss(logits, shares, ONES, 0.2, 0.0), smoothed)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_sigmoid_focal_is_torchvisions(logits: Tensor, gamma: float) -> None:
    shares = (torch.rand(B, K) > 0.5).float()
    expected = sigmoid_focal_loss(logits, shares, alpha=-1, gamma=gamma, reduction="none").mean(1)
    torch.testing.assert_close(sigmoid_loss(logits, shares, ONES, 0.0, gamma), expected)
    balanced = sigmoid_focal_loss(logits, shares, alpha=0.25, gamma=gamma, reduction="none").mean(1)
    torch.testing.assert_close(0.75 * sigmoid_loss(logits, shares, ONES / 3, 0.0, gamma), balanced)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_softmax_focal_of_two_classes_is_torchvisions_of_one(gamma: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(B, 2) * 3, torch.randint(2, (B,))
    expected = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], labels.float(), alpha=-1, gamma=gamma)
    found = softmax_loss(logits, F.one_hot(labels, 2).float(), torch.ones(2), 0.0, gamma)
    torch.testing.assert_close(found, expected)


def test_focal_is_the_published_formula(logits: Tensor) -> None:
    labels = torch.randint(K, (B,))
    p = logits.softmax(1)[torch.arange(B), labels]
    torch.testing.assert_close(softmax_loss(logits, one_hot(labels), ONES, 0.0, 2.0), -((1 - p) ** 2) * p.log())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("loss", [softmax_loss, sigmoid_loss])
def test_certain_predictions_have_finite_gradients(loss: Callable[..., Tensor], gamma: float) -> None:
    logits = torch.tensor([[300.0, -300, 0, 0, 0], [-300, 300, 0, 0, 0]], requires_grad=True)
    found = loss(logits, one_hot(torch.tensor([0, 0])), ONES, 0.0, gamma)
    found.sum().backward()
    assert found.isfinite().all()
    assert found[1] > 50
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_coral_is_the_authors(logits: Tensor) -> None:
    labels = torch.randint(K, (B,))
    levels = levels_from_labelbatch(labels, K, dtype=torch.float32)
    expected = reference_coral_loss(logits[:, 1:], levels, reduction=None)
    torch.testing.assert_close(coral_loss(logits[:, 1:], one_hot(labels), ONES), expected)
    weights = torch.rand(K)
    torch.testing.assert_close(coral_loss(logits[:, 1:], one_hot(labels), weights), expected * weights[labels])


def test_coral_of_mixed_labels_is_the_mean_of_both(logits: Tensor) -> None:
    first, second = (one_hot(torch.randint(K, (B,))) for _ in range(2))
    mixed = coral_loss(logits[:, 1:], 0.3 * first + 0.7 * second, ONES)
    apart = 0.3 * coral_loss(logits[:, 1:], first, ONES) + 0.7 * coral_loss(logits[:, 1:], second, ONES)
    torch.testing.assert_close(mixed, apart)
