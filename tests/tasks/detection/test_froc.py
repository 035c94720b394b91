"""FROC worked out by hand, by brute force, and with MONAI's reading of the curve."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import compute_froc_score
from torchvision.ops import box_iou

from tasks.data.annotations import Annotations
from tasks.detection.froc import FrocCurve, froc_curve
from tasks.label_map import LabelMap

Build = Callable[..., Annotations]
LABELS = LabelMap(ids=(3, 7), names=("nodule", "cyst"))
RATES = (0.125, 0.25, 0.5, 1, 2, 4, 8)


def test_by_hand(boxes_of: Build) -> None:
    split = boxes_of(
        [
            [((0, 0, 10, 10), 0, False), ((100, 100, 200, 200), 0, True)],
            [((20, 20, 40, 40), 0, False), ((60, 60, 90, 90), 1, False)],
        ],
        LABELS,
    )
    # image id, x, y, width, height, score, raw class
    rows = np.array(
        [
            [10, 0, 0, 10, 9, 0.9, 3],  # finds the first object
            [10, 0, 0, 10, 8, 0.8, 3],  # finds it once more: neither a hit nor a false positive
            [10, 120, 120, 20, 20, 0.95, 3],  # inside the crowd region: neither
            [10, 120, 120, 20, 20, 0.7, 7],  # of another class than the crowd: false positive
            [11, 20, 20, 20, 20, 0.6, 3],  # finds the second object
            [11, 60, 60, 30, 30, 0.5, 3],  # the third object's place, but another class: false positive
        ]
    )
    curve = froc_curve(split, rows, LABELS, iou=0.5)
    np.testing.assert_allclose(curve.false_positives, [0, 0, 0.5, 0.5, 1])
    np.testing.assert_allclose(curve.sensitivity, [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert [curve.sensitivity_at(rate) for rate in (0.25, 0.5, 8)] == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert curve.describe() == "2 of 3 objects in 2 images found at IoU 0.5 at any score, with 2 false positives"


def test_between_two_thresholds_by_straight_line() -> None:
    curve = FrocCurve(np.array([0, 0, 1.0]), np.array([0, 0.2, 0.6]), objects=5, images=1, iou=0.5)
    assert curve.sensitivity_at(0.25) == pytest.approx(0.3)


def random_case(seed: int, boxes_of: Build) -> tuple[Annotations, np.ndarray]:
    """Objects and crowds of two classes, images without any, and detections with equal scores among them."""
    rng = np.random.default_rng(seed)

    def box() -> np.ndarray:
        corner = rng.uniform(0, 100, 2)
        return np.concatenate([corner, corner + rng.uniform(10, 50, 2)])

    images, rows = [], []
    for index in range(5):
        objects = [(box(), int(rng.integers(2)), bool(rng.random() < 0.2)) for _ in range(rng.integers(0, 6))]
        images.append([(tuple(place), label, crowd) for place, label, crowd in objects])
        near = [place + rng.normal(0, 4, 4) for place, _, _ in objects for _ in range(rng.integers(0, 3))]
        for place in [*near, *(box() for _ in range(rng.integers(0, 5)))]:
            score, raw = round(rng.random(), 1), rng.choice(LABELS.ids)
            rows.append([10 + index, *place[:2], *(place[2:] - place[:2]), score, raw])
    return boxes_of(images, LABELS), np.array(rows)


def by_brute_force(split: Annotations, rows: np.ndarray, threshold: float, iou: float) -> tuple[float, float]:
    """False positives an image and sensitivity of the detections that reach a threshold, one by one."""
    found, false, count = set(), 0, 0
    for index in range(len(split)):
        objects = split.objects(index)
        count += int((~objects.crowd).sum())
        for image_id, x, y, width, height, score, raw in rows:
            if image_id != split.image_id(index) or score < threshold:
                continue
            here, excused = torch.tensor([[x, y, x + width, y + height]]), False
            for row, (box, label, crowd) in enumerate(zip(objects.boxes, objects.labels, objects.crowd, strict=True)):
                if LABELS.ids[label] != raw:
                    continue
                overlap = float(box_iou(here, torch.from_numpy(box)[None]))
                if crowd:
                    union = width * height + (box[2] - box[0]) * (box[3] - box[1])
                    overlap = overlap * union / (1 + overlap) / (width * height)  # of the detection's own area
                if overlap >= iou:
                    excused = True
                    if not crowd:
                        found.add((index, row))
            false += not excused
    return false / len(split), len(found) / count


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_brute_force(seed: int, boxes_of: Build) -> None:
    split, rows = random_case(seed, boxes_of)
    curve = froc_curve(split, rows, LABELS, iou=0.4)
    points = {by_brute_force(split, rows, threshold, 0.4) for threshold in [*np.unique(rows[:, 5]), 2.0]}
    ours = set(zip(curve.false_positives.tolist(), curve.sensitivity.tolist(), strict=True))
    np.testing.assert_allclose(sorted(ours), sorted(points), atol=1e-12)
    at = [curve.sensitivity_at(rate) for rate in RATES]
    # MONAI's curves run from the lowest threshold to the highest.
    theirs = compute_froc_score(curve.false_positives[::-1], curve.sensitivity[::-1], RATES)
    assert np.mean(at) == pytest.approx(theirs)


def test_nothing_found_and_nothing_to_find(boxes_of: Build) -> None:
    split, rows = random_case(0, boxes_of)
    nothing = froc_curve(split, np.empty((0, 7)), LABELS, iou=0.5)
    assert [nothing.sensitivity_at(rate) for rate in RATES] == [0] * len(RATES)
    empty = froc_curve(boxes_of([[]] * 5, LABELS), rows, LABELS, iou=0.5)
    assert empty.sensitivity_at(1) == -1
    assert empty.false_positives[-1] == len(rows) / 5


def test_picture(boxes_of: Build, tmp_path: Path) -> None:
    froc_curve(*random_case(0, boxes_of), LABELS, iou=0.5).draw(tmp_path / "froc.png", [1.0])
    assert (tmp_path / "froc.png").read_bytes()[:4] == b"\x89PNG"
