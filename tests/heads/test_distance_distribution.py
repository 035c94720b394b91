import pytest
import torch
from torch.nn import functional as F

from heads.distance_distribution import distribution_focal_loss, expected_distances


def test_loss_is_cross_entropy_with_two_bins() -> None:
    """The same, with the whole distribution that is wanted written out."""
    torch.manual_seed(0)
    logits = torch.randn(3, 50, 4, 9, requires_grad=True)
    distances = torch.rand(3, 50, 4) * 8
    distances[0, 0] = torch.tensor([0.0, 8, 3, 7])
    wanted = (1 - (distances[..., None] - torch.arange(9)).abs()).clamp(min=0)  # a triangle around the distance
    torch.testing.assert_close(wanted.sum(-1), torch.ones(3, 50, 4))
    loss = distribution_focal_loss(logits, distances)
    expected = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(0, 2), reduction="none").view(3, 50, 4)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    (wanted_gradient,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(gradient, wanted_gradient)


def test_what_is_out_of_range_counts_as_its_end() -> None:
    logits = torch.randn(2, 6)
    beyond = distribution_focal_loss(logits, torch.tensor([-3.0, 99.0]))
    torch.testing.assert_close(beyond, distribution_focal_loss(logits, torch.tensor([0.0, 5.0])))


@pytest.mark.parametrize("distance", [0.0, 0.25, 3.0, 6.5, 8.0])
def test_the_distribution_that_is_wanted_has_the_distance_as_its_mean(distance: float) -> None:
    wanted = (1 - (distance - torch.arange(9)).abs()).clamp(min=0)
    assert float(expected_distances(wanted.log())) == pytest.approx(distance, abs=1e-5)


def test_means_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = expected_distances(torch.tensor([[0.3, 2.0, 1.7]]))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(torch.tensor([0.3, 2.0, 1.7]).softmax(0) @ torch.arange(3.0)), abs=1e-6)
