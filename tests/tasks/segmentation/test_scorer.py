"""What the scorer pools, averages, leaves out and punishes."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from heads.contract import IGNORED, SemanticMasks
from tasks.config import DataConfig, Experiment, MetricsConfig, PluginHeadConfig, UNetConfig
from tasks.data.annotations import Annotations
from tasks.data.files import image_file
from tasks.segmentation.scorer import SegmentationScorer

Build = Callable[..., Annotations]


def scorer_of(split: Annotations, head: dict[str, Any] | None = None, **sections: Any) -> SegmentationScorer:
    config = Experiment(heads={"masks": UNetConfig(**head or {})}, **sections)
    return SegmentationScorer("masks", config, split, split.label_map)


def scores(scorer: SegmentationScorer, predictions: list[np.ndarray], processes: int = 1) -> dict[str, float]:
    """Metrics of predictions that so many processes added, each its own."""
    collected = []
    for rank in range(processes):
        scorer.reset()
        for index in range(rank, len(predictions), processes):
            masks = predictions[index] if predictions[index].ndim == 3 else predictions[index][None]
            scorer.add(index, SemanticMasks(torch.from_numpy(masks.copy())))
        collected.append(pickle.loads(pickle.dumps(scorer.collected())))
    metrics = scorer.metrics(collected)
    assert list(metrics) == scorer.names()
    assert {scorer.main_metric, *scorer.headline} <= metrics.keys()
    return metrics


def random_masks(seed: int, highest: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, highest + 1, shape).astype(np.uint8)


def test_pooled_metrics_equal_scikit_learn(split_of: Build) -> None:
    truth, predicted = random_masks(0, 3, (4, 20, 25)), random_masks(1, 3, (4, 20, 25))
    truth[random_masks(2, 9, truth.shape) == 0] = IGNORED
    ours = scores(scorer_of(split_of(truth, ("a", "b", "c"))), list(predicted))
    known = truth != IGNORED
    pair = truth[known], predicted[known]
    expected = {
        "Dice": f1_score(*pair, average="macro", labels=[1, 2, 3]),
        "mIoU": jaccard_score(*pair, average="macro", labels=[1, 2, 3]),
        "mIoU_with_background": jaccard_score(*pair, average="macro"),
        "pixel_accuracy": accuracy_score(*pair),
        "Dice/b": f1_score(*pair, average="macro", labels=[2]),
        "IoU/c": jaccard_score(*pair, average="macro", labels=[3]),
    }
    assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    each = [
        f1_score(t[t != IGNORED], p[t != IGNORED], average="macro", labels=[1])
        for t, p in zip(truth, predicted, strict=True)
    ]
    assert ours["Dice_per_image/a"] == pytest.approx(np.mean(each))


def test_overlapping_planes(split_of: Build) -> None:
    truth, predicted = random_masks(0, 1, (3, 2, 20, 25)), random_masks(1, 1, (3, 2, 20, 25))
    truth[:, 1, :4] = IGNORED
    ours = scores(scorer_of(split_of(truth, ("a", "b")), {"target": "multilabel"}), list(predicted))
    by_class = [f1_score(truth[:, 0].ravel(), predicted[:, 0].ravel())]
    by_class.append(f1_score(truth[:, 1, 4:].ravel(), predicted[:, 1, 4:].ravel()))
    assert [ours["Dice/a"], ours["Dice/b"], ours["Dice"]] == pytest.approx([*by_class, np.mean(by_class)])
    assert ours["pixel_accuracy"] == pytest.approx((truth == predicted)[truth != IGNORED].mean())
    assert "mIoU_with_background" not in ours


def test_without_background_nothing_counts_where_nothing_is_annotated(split_of: Build) -> None:
    truth, predicted = random_masks(0, 2, (2, 20, 25)), random_masks(1, 1, (2, 20, 25)) + np.uint8(1)
    ours = scores(scorer_of(split_of(truth, ("a", "b")), {"background": False}), list(predicted))
    known = truth > 0
    assert ours["mIoU"] == pytest.approx(jaccard_score(truth[known], predicted[known], average="macro"))
    assert ours["pixel_accuracy"] == pytest.approx((truth == predicted)[known].mean())
    assert "mIoU_with_background" not in ours


def test_missed_and_invented_cases_are_the_worst_possible(split_of: Build, square: np.ndarray) -> None:
    """The example of MONAI's issue 9095: what is missed altogether must not drop out of a mean."""
    nothing, diagonal = np.zeros_like(square), float(np.hypot(20, 30))
    shifted = np.roll(square, 1, axis=1)
    truth, predicted = [square, square, nothing, nothing], [shifted, nothing, square, nothing]
    scorer = scorer_of(split_of(truth, ("a",)), metrics=MetricsConfig(surface_tolerance=0.5))
    ours = scores(scorer, predicted)
    assert ours["Dice_per_image"] == pytest.approx((30 / 36 + 0 + 0) / 3)
    assert ours["HD95"] == pytest.approx((1 + 2 * diagonal) / 3)
    assert ours["surface_Dice"] == pytest.approx((10 / 20 + 0 + 0) / 3)
    assert "a: in 3 of 4 images; missed altogether in 1, predicted where it is not in 1" in scorer.notes()
    found = scores(scorer, [shifted, square, nothing, nothing])
    assert found["Dice_per_image"] > ours["Dice_per_image"]
    assert found["HD95"] < ours["HD95"]
    assert scorer.lower == {"HD95", "HD95/a"}


def test_class_that_is_nowhere_leaves_the_means(split_of: Build, square: np.ndarray) -> None:
    ours = scores(scorer_of(split_of([square], ("a", "nowhere"))), [square])
    assert {kind: ours[f"{kind}/nowhere"] for kind in ("Dice", "IoU", "HD95", "surface_Dice")} == dict.fromkeys(
        ("Dice", "IoU", "HD95", "surface_Dice"), -1
    )
    assert [ours["Dice"], ours["mIoU"], ours["Dice_per_image"], ours["HD95"]] == [1, 1, 1, 0]
    assert scores(scorer_of(split_of([square * 0], ("a",))), [square * 0])["Dice"] == -1


def test_ignored_pixels_are_neither_found_nor_wrong(split_of: Build, square: np.ndarray) -> None:
    truth = square.copy()
    truth[12:18] = IGNORED
    predicted = square.copy()
    predicted[12:18, 3:20] = 1
    ours = scores(scorer_of(split_of([truth], ("a",))), [predicted])
    assert [ours[name] for name in ("Dice", "pixel_accuracy", "HD95", "surface_Dice")] == [1, 1, 0, 1]


def test_millimetres(split_of: Build, square: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    shifted = np.roll(square, 3, axis=0)
    split = split_of([square, square], ("a",))
    metrics = MetricsConfig(surface_tolerance=1.5)
    in_pixels = scorer_of(split, metrics=metrics)
    ours = scores(in_pixels, [shifted, shifted])
    assert ours["HD95"] == 3
    assert "HD95 in pixels" in in_pixels.notes()[0]
    assert ours["surface_Dice"] < 1
    in_mm = scorer_of(split, metrics=metrics, data=DataConfig(spacing=(0.5, 9.0)))
    ours = scores(in_mm, [shifted, shifted])
    assert ours["HD95"] == 1.5
    assert ours["surface_Dice"] == 1
    assert "HD95 in mm, surface Dice at 1.5 mm" in in_mm.notes()[0]
    # One file says its spacing, the other does not.
    says = {"1.png": (0.5, 9.0)}
    monkeypatch.setattr(image_file, "read_spacing", lambda path, frame, axis: says.get(path.name))
    mixed = scorer_of(replace(split, pixels=None), metrics=metrics)
    assert scores(mixed, [shifted, shifted])["HD95"] == (3 + 1.5) / 2
    assert "mix mm (1 images) and pixels (the other 1" in mixed.notes()[0]


def test_processes_do_not_change_a_bit(split_of: Build) -> None:
    truth, predicted = random_masks(0, 2, (50, 12, 9)), random_masks(1, 2, (50, 12, 9))
    scorer = scorer_of(split_of(truth, ("a", "b")))
    assert scores(scorer, list(predicted), processes=3) == scores(scorer, list(predicted))


def test_no_image_at_all(split_of: Build, square: np.ndarray) -> None:
    scorer = scorer_of(split_of([square], ("a",)))
    assert set(scorer.metrics([[]]).values()) == {-1}


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.full((1, 20, 30), 2, np.uint8), "values up to 2"),
        (np.zeros((2, 20, 30), np.uint8), "2 planes"),
        (np.zeros((1, 20, 30), np.int64), "int64"),
    ],
)
def test_plugin_head_that_gives_other_masks(
    split_of: Build, square: np.ndarray, masks: np.ndarray, message: str
) -> None:
    split = split_of([square], ("a",))
    config = Experiment(heads={"own": PluginHeadConfig(name="own")})
    scorer = SegmentationScorer("own", config, split, split.label_map)
    with pytest.raises(ValueError, match=message):
        scorer.add(0, SemanticMasks(torch.from_numpy(masks)))


def test_picture(split_of: Build, square: np.ndarray, tmp_path: Path) -> None:
    scorer = scorer_of(split_of([square, square, square * 0], ("a", "b")))
    scores(scorer, [square, np.roll(square, 2, axis=0), square * 0])
    scorer.draw(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["masks_dice.png"]
