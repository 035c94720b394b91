import pytest
import torch
from torchvision.ops import box_iou, complete_box_iou_loss, generalized_box_iou_loss

from heads.box_overlap import aligned_iou, overlap_loss


def boxes(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(3, 40, 2, generator=generator) * 50
    return torch.cat((corner, corner + 1 + torch.rand(3, 40, 2, generator=generator) * 40), dim=-1)


@pytest.mark.parametrize(
    ("kind", "reference"), [("giou", generalized_box_iou_loss), ("ciou", complete_box_iou_loss)], ids=["giou", "ciou"]
)
def test_losses_and_gradients_equal_torchvision(kind: str, reference) -> None:
    ours, others = boxes(0).requires_grad_(), boxes(1)
    loss, expected = overlap_loss(kind, ours, others), reference(ours, others)
    torch.testing.assert_close(loss, expected)
    assert (loss > 1).any()  # boxes that do not overlap
    (gradient,) = torch.autograd.grad(loss.sum(), ours)
    (wanted,) = torch.autograd.grad(expected.sum(), ours)
    torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["giou", "ciou"])
def test_boxes_without_area_have_finite_gradients(kind: str) -> None:
    point = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 9], [5, 5, 9, 5]], requires_grad=True)
    loss = overlap_loss(kind, point, torch.tensor([[0.0, 0, 10, 10]]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert point.grad.isfinite().all()


def test_equal_boxes_have_no_loss() -> None:
    for kind in ("giou", "ciou"):
        assert overlap_loss(kind, boxes(0), boxes(0)).abs().max() < 1e-6


def test_aligned_iou_is_the_diagonal() -> None:
    iou, union = aligned_iou(boxes(0), boxes(1))
    expected = torch.stack([box_iou(a, b).diagonal() for a, b in zip(boxes(0), boxes(1), strict=True)])
    torch.testing.assert_close(iou, expected)
    assert (union > 0).all()
