"""Counts of pixels against scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score
from torchmetrics.classification import MulticlassJaccardIndex

from heads.contract import IGNORED
from tasks.segmentation.overlap import count_pixels, count_pixels_of_planes, dice, iou

CLASSES = 4


def random_masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth with ignored pixels and without class 3, and a prediction that is right about half of the time."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, (30, 41)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, CLASSES + 1, truth.shape))
    truth[rng.random(truth.shape) < 0.2] = IGNORED
    return truth, predicted.astype(np.uint8)


def test_counts_of_one_plane() -> None:
    truth, predicted = random_masks(0)
    known = truth != IGNORED
    matrix = confusion_matrix(truth[known], predicted[known], labels=range(CLASSES + 1))
    counts = count_pixels(truth, predicted, CLASSES)
    np.testing.assert_array_equal(counts[:, 0], np.diag(matrix))
    np.testing.assert_array_equal(counts[:, 1], matrix.sum(axis=0))
    np.testing.assert_array_equal(counts[:, 2], matrix.sum(axis=1))


def test_ratios() -> None:
    truth, predicted = random_masks(1)
    known = truth != IGNORED
    counts = count_pixels(truth, predicted, CLASSES)
    pair, labels = (truth[known], predicted[known]), list(range(CLASSES + 1))
    np.testing.assert_allclose(dice(counts), f1_score(*pair, labels=labels, average=None), atol=1e-12)
    np.testing.assert_allclose(iou(counts), jaccard_score(*pair, labels=labels, average=None), atol=1e-12)
    theirs = MulticlassJaccardIndex(CLASSES + 1, average="none", ignore_index=IGNORED)
    predicted_there, truth_there = torch.from_numpy(predicted).long()[None], torch.from_numpy(truth).long()[None]
    np.testing.assert_allclose(iou(counts), theirs(predicted_there, truth_there), atol=1e-6)


def test_as_many_classes_as_a_byte_holds() -> None:
    truth = np.arange(256, dtype=np.uint8)[None]  # 0 .. 254, and 255 that is ignored
    predicted = np.minimum(truth, 254)
    counts = count_pixels(truth, predicted, 254)
    assert counts.shape == (255, 3)
    np.testing.assert_array_equal(counts, 1)


def test_counts_of_overlapping_planes() -> None:
    rng = np.random.default_rng(2)
    truth, predicted = rng.integers(0, 2, (2, 3, 20, 30)).astype(np.uint8)
    truth[1, :5] = IGNORED
    counts = count_pixels_of_planes(truth, predicted)
    known = truth != IGNORED
    for label in range(3):
        ours = dice(counts)[label + 1]
        assert ours == pytest.approx(f1_score(truth[label][known[label]], predicted[label][known[label]]))
    assert counts[:, 2].sum() == known.sum()
    assert counts[:, 0].sum() == (truth == predicted)[known].sum()


def test_absent_from_both_is_not_a_number() -> None:
    counts = np.array([[3, 3, 3], [0, 0, 0], [0, 2, 0]])
    np.testing.assert_array_equal(dice(counts), [1, np.nan, 0])
    np.testing.assert_array_equal(iou(counts), [1, np.nan, 0])
