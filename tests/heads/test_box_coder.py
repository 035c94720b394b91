import pytest
import torch
from torchvision.models.detection._utils import BoxCoder as Reference

from heads.box_coder import BoxCoder

WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)]


def random_boxes(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2) * 500
    return torch.cat((corner, corner + 10 + torch.rand(count, 2) * 300), dim=1)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_equals_torchvision(weights: tuple[float, float, float, float]) -> None:
    torch.manual_seed(0)
    ours, theirs = BoxCoder(weights), Reference(weights)
    boxes, references = random_boxes(200), random_boxes(200)
    torch.testing.assert_close(ours.encode(boxes, references), theirs.encode_single(boxes, references))
    # Wide enough that the limit on growth is reached.
    deltas = torch.randn(200, 4) * 20
    torch.testing.assert_close(ours.decode(deltas, references), theirs.decode_single(deltas, references))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_decode_undoes_encode(weights: tuple[float, float, float, float]) -> None:
    torch.manual_seed(0)
    coder = BoxCoder(weights)
    boxes, references = random_boxes(200), random_boxes(200)
    back = coder.decode(coder.encode(boxes, references), references)
    torch.testing.assert_close(back, boxes, rtol=1e-4, atol=1e-3)


def test_decode_broadcasts_over_classes() -> None:
    torch.manual_seed(0)
    coder, references, deltas = BoxCoder(), random_boxes(5), torch.randn(5, 3, 4)
    together = coder.decode(deltas, references[:, None])
    torch.testing.assert_close(together[:, 1], coder.decode(deltas[:, 1], references))


def test_computes_in_float32() -> None:
    decoded = BoxCoder().decode(torch.zeros(1, 4, dtype=torch.bfloat16), torch.tensor([[1001.0, 1003, 1011, 1017]]))
    assert decoded.tolist() == [[1001.0, 1003, 1011, 1017]]
