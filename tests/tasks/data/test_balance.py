"""Weights of images equal scikit-learn's balanced ones, and fall back where nothing is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_sample_weight

from backbones.errors import UserError
from tasks.data.annotations import Annotations
from tasks.data.balance import sampling_weights
from tasks.data.packing import pack, pack_images
from tasks.data.report import ReadReport
from tasks.label_map import LabelMap

LABELS = np.array([0] * 60 + [1] * 30 + [2] * 10)
CLASSES = LabelMap(ids=(1, 2, 3), names=("a", "b", "c"))


def split(labels: Any = None, **others: Any) -> Annotations:
    count = len(labels) if labels is not None else len(others["weights"])
    return pack_images(
        split="train",
        root=Path(),
        label_map=CLASSES,
        report=ReadReport("data.csv"),
        names=["x.png"] * count,
        image_labels=None if labels is None else torch.as_tensor(labels),
        **others,
    )


def with_boxes(image_of: list[int], labels: list[int], images: int) -> Annotations:
    count = len(labels)
    return pack(
        split="train",
        root=Path(),
        label_map=CLASSES,
        report=ReadReport("data.json"),
        names=["x.png"] * images,
        image_ids=list(range(images)),
        sizes=np.zeros((images, 2)),
        image_of=np.array(image_of, np.int64),
        boxes=np.zeros((count, 4)),
        labels=np.array(labels, np.int64),
        crowd=np.zeros(count, bool),
        areas=np.zeros(count),
    )


def test_plain_labels() -> None:
    assert sampling_weights(split(LABELS), 0.0) is None
    full = sampling_weights(split(LABELS), 1.0)
    assert full is not None
    balanced = compute_sample_weight("balanced", LABELS)
    np.testing.assert_allclose(full / full.sum(), balanced / balanced.sum())
    half = sampling_weights(split(LABELS), 0.5)
    assert half is not None
    np.testing.assert_allclose(half / half.sum(), balanced**0.5 / (balanced**0.5).sum())


def test_an_image_counts_as_its_rarest_class() -> None:
    labels = np.zeros((10, 3), np.uint8)
    labels[:, 0] = 1
    labels[:5, 1] = 1
    labels[0, 2] = 1
    labels[9] = 0  # without a class: as the most frequent
    weights = sampling_weights(split(labels), 1.0)
    assert weights is not None
    np.testing.assert_allclose(weights, [10, 2, 2, 2, 2, 10 / 9, 10 / 9, 10 / 9, 10 / 9, 10 / 9])


def test_unknown_labels_and_absent_classes() -> None:
    weights = sampling_weights(split(np.array([0, 0, 0, 1, -1])), 1.0)
    assert weights is not None
    np.testing.assert_allclose(weights, [5 / 3, 5 / 3, 5 / 3, 5, 5 / 3])


def test_classes_of_boxes() -> None:
    annotations = with_boxes([0, 0, 0, 1, 3], [0, 0, 1, 0, 0], 4)
    weights = sampling_weights(annotations, 1.0)
    assert weights is not None
    np.testing.assert_allclose(weights, [4, 4 / 3, 4 / 3, 4 / 3])


def test_weights_of_the_data_set() -> None:
    own = torch.linspace(0, 3, 100)
    np.testing.assert_allclose(sampling_weights(split(LABELS, weights=own), 0.0), own)  # type: ignore[arg-type]
    both, plain = sampling_weights(split(LABELS, weights=own), 0.7), sampling_weights(split(LABELS), 0.7)
    np.testing.assert_allclose(both, plain * own.numpy())  # type: ignore[operator, arg-type]


@pytest.mark.parametrize(
    ("annotations", "balance", "message"),
    [
        (split(np.full(3, -1)), 0.5, r"data\.balance is 0\.5, but data\.csv names no class"),
        (split(np.array([[0.5]], np.float32)), 1.0, "names no class"),
        (with_boxes([], [], 2), 1.0, r"data\.json names no class"),
        (split(weights=torch.tensor([1.0, -1.0])), 0.0, r"data\.csv: the weights of images run from -1 to 1"),
        (split(weights=torch.zeros(2)), 0.0, "run from 0 to 0"),
        (split(weights=torch.tensor([1.0, torch.nan])), 0.0, "expected finite numbers"),
    ],
)
def test_what_cannot_be_used(annotations: Annotations, balance: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        sampling_weights(annotations, balance)
