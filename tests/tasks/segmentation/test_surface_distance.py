"""Distances between contours against MONAI, and against all pairs of contour pixels."""

import cv2
import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.spatial.distance import cdist

from tasks.segmentation.surface_distance import hausdorff_95, surface_dice, surface_distances


def blobs(seed: int, size: tuple[int, int] = (61, 47)) -> np.ndarray:
    """Discs and a hole, some of them cut by the border."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    for value in (1, 1, 1, 0):
        x, y = rng.integers(0, size[1]), rng.integers(0, size[0])
        cv2.circle(mask, (int(x), int(y)), int(rng.integers(3, 12)), value, cv2.FILLED)
    mask[rng.integers(0, size[0]), rng.integers(0, size[1])] = 1  # never empty
    return mask


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (33, 29)).astype(np.uint8)


def contour(mask: np.ndarray) -> np.ndarray:
    """(N, 2) pixels with a neighbour outside, written down as a person would."""
    padded = np.pad(mask, 1)
    around = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    return np.argwhere((mask == 1) & (np.min(around, axis=0) == 0))


PAIRS = [(blobs(seed), blobs(seed + 100)) for seed in range(8)] + [(noise(1), noise(2)), (blobs(3), blobs(3))]


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI warns of its own call
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 2.5)])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_equal_to_monai(first: np.ndarray, second: np.ndarray, spacing: tuple[float, float]) -> None:
    distances = surface_distances(first, second, spacing)
    ours = hausdorff_95(distances), surface_dice(distances, 2.1)
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (first, second)]
    far = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(spacing))
    close = compute_surface_dice(*pair, class_thresholds=[2.1], include_background=True, spacing=list(spacing))
    assert ours == pytest.approx((float(far), float(close)), abs=1e-4)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_equal_to_all_pairs(first: np.ndarray, second: np.ndarray) -> None:
    spacing = np.array([0.5, 1.5])
    pairs = cdist(contour(first) * spacing, contour(second) * spacing)
    there, back = surface_distances(first, second, (0.5, 1.5))
    np.testing.assert_allclose(np.sort(there), np.sort(pairs.min(axis=1)), atol=1e-12)
    np.testing.assert_allclose(np.sort(back), np.sort(pairs.min(axis=0)), atol=1e-12)


def test_both_ways_of_searching_are_tested() -> None:
    """A search is used where contours are few pixels of the box around both masks, a map where they are many."""
    share = []
    for first, second in PAIRS:
        rows, columns = np.nonzero(first | second)
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        share.append((len(contour(first)) + len(contour(second))) / box)
    assert min(share) < 1 / 8 < max(share)


def test_shifted_square() -> None:
    first, second = np.zeros((2, 40, 40), np.uint8)
    first[10:20, 10:20] = second[10:20, 13:23] = 1
    distances = surface_distances(first, second, (1, 1))
    assert hausdorff_95(distances) == 3
    assert surface_dice(distances, 3) == 1
    # Of the 36 contour pixels of each, 7 of the upper side and 7 of the lower one lie on the other's contour.
    assert surface_dice(distances, 0) == 14 / 36


def test_rounding_does_not_decide_at_the_tolerance() -> None:
    first, second = np.zeros((2, 9, 9), np.uint8)
    first[2, 4] = second[5, 4] = 1
    distances = surface_distances(first, second, (0.1, 0.1))
    assert distances[0][0] > 0.3  # 3 * 0.1 in floating point
    assert surface_dice(distances, 0.3) == 1
