"""Windows cover the image, are laid out and blended as MONAI's, and put a pixel-wise network's scores back exactly."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from heads.contract import ImageSizes, Targets
from tasks.config import InferenceConfig
from tasks.data.sample import Batch
from tasks.sliding_window import window_scores, window_starts


def batch_of(images: Tensor, valid: list[tuple[int, int]]) -> Batch:
    sizes = torch.tensor(valid)
    padded = images.shape[2], images.shape[3]
    count = len(valid)
    targets = Targets(torch.zeros(count, dtype=torch.int64))
    return Batch(images, ImageSizes(padded, sizes, sizes), targets, tuple(range(count)), ("",) * count)


def scoring(network: Callable[[Tensor], Tensor]) -> Callable[[Batch], dict[str, Tensor]]:
    return lambda batch: {"masks": network(batch.images.float())}


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0, 0.95))
def test_windows_cover_a_side(length: int, window: int, overlap: float) -> None:
    starts = window_starts(length, window, overlap)
    covered = {position for start in starts for position in range(start, min(start + window, length))}
    assert covered == set(range(length))
    assert starts == sorted(set(starts))
    assert all(start + min(window, length) <= length for start in starts)


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize("window", [(16, 16), (24, 16), (64, 64)])
def test_a_pixelwise_network_gives_what_it_gives_at_once(blend: str, window: tuple[int, int]) -> None:
    torch.manual_seed(0)
    batch = batch_of(torch.rand(2, 3, 64, 64), [(50, 41), (64, 30)])
    network = nn.Conv2d(3, 2, 1)
    config = InferenceConfig.model_validate({"window": window, "blend": blend})
    with torch.inference_mode():
        found = window_scores(scoring(network), batch, config, 32)["masks"]
        expected = network(batch.images)
    for row, (height, width) in enumerate(batch.sizes.valid.tolist()):
        torch.testing.assert_close(found[row, :, :height, :width], expected[row, :, :height, :width])


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_equals_monai(overlap: float, blend: str) -> None:
    """A network that sees beyond a pixel gives other scores in every window; only the same blend adds up alike."""
    torch.manual_seed(1)
    network = nn.Conv2d(1, 2, 9, padding=4)
    image = torch.rand(1, 1, 96, 80)
    config = InferenceConfig.model_validate({"window": (32, 32), "overlap": overlap, "blend": blend})
    with torch.inference_mode():
        found = window_scores(scoring(network), batch_of(image, [(96, 80)]), config, 32)["masks"]
        expected = sliding_window_inference(image, (32, 32), 4, network, overlap=overlap, mode=blend)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
