import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder as ReferenceCoder
from torchvision.ops import box_iou, generalized_box_iou

from heads.box_coder import BoxCoder
from heads.box_loss import box_loss_sum

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    corner = torch.rand(2, 30, 2) * 50
    references = torch.cat((corner, corner + 5 + torch.rand(2, 30, 2) * 40), dim=-1)
    boxes = references + torch.rand(2, 30, 4)
    used = torch.rand(2, 30) > 0.5
    # What is not in use is often empty: no proposal, no target.
    references, boxes = (torch.where(used[..., None], t, 0.0) for t in (references, boxes))
    return torch.randn(2, 30, 4, requires_grad=True), references, boxes, used


@pytest.mark.parametrize("kind", ["l1", "smooth_l1", "giou"])
def test_equals_torchvision_on_entries_in_use(kind: str) -> None:
    deltas, references, boxes, used = case()
    loss = box_loss_sum(kind, BoxCoder(WEIGHTS), deltas, references, boxes, used)
    (gradient,) = torch.autograd.grad(loss, deltas)
    coder = ReferenceCoder(WEIGHTS)
    if kind == "giou":
        decoded = coder.decode_single(deltas[used], references[used])
        expected = (1 - generalized_box_iou(decoded, boxes[used]).diagonal()).sum()
        assert (box_iou(decoded, boxes[used]).diagonal() > 0.1).any()
    else:
        wanted = coder.encode_single(boxes[used], references[used])
        beta = 1 / 9 if kind == "smooth_l1" else 0
        expected = F.smooth_l1_loss(deltas[used], wanted, beta=beta, reduction="sum")
    torch.testing.assert_close(loss, expected)
    (wanted_gradient,) = torch.autograd.grad(expected, deltas)
    torch.testing.assert_close(gradient, wanted_gradient)


@pytest.mark.parametrize("kind", ["l1", "smooth_l1", "giou"])
def test_nothing_in_use_gives_a_connected_zero(kind: str) -> None:
    deltas, references, boxes, used = case()
    loss = box_loss_sum(kind, BoxCoder(), deltas, references, boxes, torch.zeros_like(used))
    loss.backward()
    assert loss == 0
    assert not deltas.grad.any()
