"""A convolution at some cells against the whole one."""

import pytest
import torch
from torch import Tensor, nn

from heads.sampled_convolution import convolve_cells, linear_at_cells


def levels(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 6, 8, 5), (2, 6, 4, 3), (2, 6, 1, 1)]
    return [
        torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
        for shape in shapes
    ]


@pytest.fixture
def layers() -> tuple[nn.Conv2d, nn.Conv2d]:
    torch.manual_seed(0)
    return nn.Conv2d(6, 7, 3, padding=1), nn.Conv2d(7, 2, 1)


def test_equals_the_whole_convolution_and_its_gradients(layers) -> None:
    first, second = layers
    level_of = torch.tensor([[0, 0, 1, 2, 1, 0], [1, 2, 0, 0, 0, 0]])
    # Corners, borders and the only cell of the last level; one cell is drawn twice.
    row = torch.tensor([[0, 7, 3, 0, 1, 4], [0, 0, 2, 2, 7, 0]])
    column = torch.tensor([[0, 4, 2, 0, 1, 2], [2, 0, 1, 1, 0, 4]])
    loss_weights = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(1))

    def whole(maps: list[Tensor]) -> Tensor:
        outputs = [second(first(level).relu()) for level in maps]
        picked = [
            outputs[int(level)][image, :, int(y), int(x)]
            for image in range(2)
            for level, y, x in zip(level_of[image], row[image], column[image], strict=True)
        ]
        return torch.stack(picked).view(2, 6, 2)

    def sampled(maps: list[Tensor]) -> Tensor:
        return linear_at_cells(second, convolve_cells(first, maps, level_of, row, column).relu())

    results = []
    for method in (whole, sampled):
        maps = levels()
        output = method(maps)
        inputs = [*maps, *first.parameters(), *second.parameters()]
        results.append([output, *torch.autograd.grad((output * loss_weights).sum(), inputs)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_weights_used_before_without_gradients_under_autocast_learn(layers) -> None:
    first, second = layers
    place = torch.zeros(2, 1, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        maps = levels(torch.bfloat16)
        with torch.no_grad():  # autocast keeps the copies it makes here
            second(first(maps[0]))
        output = linear_at_cells(second, convolve_cells(first, maps, place, place, place).relu())
    output.float().square().sum().backward()
    for parameter in (*first.parameters(), *second.parameters(), maps[0]):
        assert parameter.grad is not None
        assert parameter.grad.any()
