import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from backbones import UserError
from heads import ImageLabels
from heads.contract import LabelKind
from tasks.classification.scorer import ClassificationScorer
from tasks.config import ClassificationConfig, Experiment, PluginHeadConfig
from tasks.data.annotations import Annotations

Split = Callable[..., Annotations]


def make(annotations: Annotations, target: LabelKind) -> ClassificationScorer:
    config = Experiment(heads={"label": ClassificationConfig(target=target)})
    return ClassificationScorer("label", config, annotations, annotations.label_map)


def scored(scorer: ClassificationScorer, scores: Tensor) -> dict[str, float]:
    """Metrics of one prediction an image, made by three processes out of order, the last of which has none."""
    parts = []
    for indices in (range(1, len(scores), 2)[::-1], range(0, len(scores), 2), ()):
        scorer.reset()
        for index in indices:
            scorer.add(index, ImageLabels(scores[index], scorer.target))
        parts.append(pickle.loads(pickle.dumps(scorer.collected())))
    found = scorer.metrics(parts)
    assert list(found) == scorer.names()
    assert all(type(value) is float for value in found.values())
    assert {scorer.main_metric, *scorer.headline} <= set(found)
    return found


def rows(seed: int, images: int, classes: int) -> Tensor:
    """(images, classes) random probabilities that add up to 1."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(images, classes, generator=generator) * 2).softmax(dim=1)


def names(classes: int) -> tuple[str, ...]:
    return tuple(f"k{index}" for index in range(classes))


def test_single(split: Split) -> None:
    scores, truth = rows(0, 80, 7), torch.randint(7, (80,), generator=torch.Generator().manual_seed(1))
    found = scored(make(split(truth, names(7)), "single"), scores)
    predicted = scores.argmax(dim=1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    assert found["top5"] == pytest.approx(metrics.top_k_accuracy_score(truth, scores, k=5, labels=range(7)))
    assert found["F1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    own = torch.nn.functional.one_hot(truth, 7).numpy()
    assert found["AUROC"] == pytest.approx(metrics.roc_auc_score(own, scores, average="macro"))
    assert found["AP"] == pytest.approx(metrics.average_precision_score(own, scores, average="macro"))
    assert found["recall/k3"] == pytest.approx(metrics.recall_score(truth == 3, predicted == 3))
    assert found["precision/k3"] == pytest.approx(metrics.precision_score(truth == 3, predicted == 3))
    assert found["F1/k3"] == pytest.approx(metrics.f1_score(truth == 3, predicted == 3))


def test_top5_of_equal_scores_takes_the_first_classes(split: Split) -> None:
    found = scored(make(split(torch.arange(8), names(8)), "single"), torch.full((8, 8), 1 / 8))
    assert (found["accuracy"], found["top5"]) == (1 / 8, 5 / 8)


def test_ece_of_single_is_of_the_decided_class(split: Split) -> None:
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    found = scored(make(split(torch.tensor([0, 0, 0]), ("a", "b")), "single"), scores)
    assert found["ECE"] == pytest.approx((0.1 + 0.8 + 0.3) / 3, abs=1e-6)


def test_two_classes_are_scored_by_the_second(split: Split) -> None:
    scores, truth = rows(0, 40, 2), torch.randint(2, (40,), generator=torch.Generator().manual_seed(1))
    found = scored(make(split(truth, ("healthy", "ill")), "single"), scores)
    assert found["AUROC"] == pytest.approx(metrics.roc_auc_score(truth, scores[:, 1]))
    assert found["AP"] == pytest.approx(metrics.average_precision_score(truth, scores[:, 1]))
    assert "top5" not in found


def test_multi(split: Split) -> None:
    scores = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    truth = torch.rand(60, 4, generator=torch.Generator().manual_seed(1)) < scores * torch.tensor([1, 0.7, 0.5, 0.2])
    found = scored(make(split(truth.to(torch.uint8), names(4)), "multi"), scores)
    predicted = scores >= 0.5
    assert found["mAP"] == pytest.approx(metrics.average_precision_score(truth, scores, average="macro"))
    assert found["AUROC"] == pytest.approx(metrics.roc_auc_score(truth, scores, average="macro"))
    assert found["F1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    assert found["F1_micro"] == pytest.approx(metrics.f1_score(truth, predicted, average="micro"))
    assert found["exact_match"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert found["AP/k1"] == pytest.approx(metrics.average_precision_score(truth[:, 1], scores[:, 1]))
    assert found["AUROC/k1"] == pytest.approx(metrics.roc_auc_score(truth[:, 1], scores[:, 1]))
    # Each class of each image is a prediction of its own.
    bins = np.clip(np.ceil(scores.flatten().numpy() * 15) - 1, 0, 14)
    gaps = [abs((truth.flatten().float() - scores.flatten())[bins == index].sum()) for index in range(15)]
    assert found["ECE"] == pytest.approx(float(sum(gaps)) / 240, abs=1e-6)


def test_ordinal(split: Split) -> None:
    scores, truth = rows(0, 50, 5), torch.randint(5, (50,), generator=torch.Generator().manual_seed(1))
    found = scored(make(split(truth, names(5)), "ordinal"), scores)
    predicted = (scores.cumsum(dim=1) < 0.5).sum(dim=1)
    assert not torch.equal(predicted, scores.argmax(dim=1))
    assert found["QWK"] == pytest.approx(metrics.cohen_kappa_score(truth, predicted, weights="quadratic"))
    assert found["MAE"] == pytest.approx(metrics.mean_absolute_error(truth, predicted))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    assert found["F1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))


def test_regression(split: Split) -> None:
    truth = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([20, 0.1])
    predicted = truth + torch.randn(30, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([9, 0.1])
    scorer = make(split(truth, ("age", "width")), "regression")
    found = scored(scorer, predicted)
    assert found["MAE"] == pytest.approx(metrics.mean_absolute_error(truth, predicted))
    assert found["RMSE"] == pytest.approx(metrics.root_mean_squared_error(truth, predicted))
    assert found["R2"] == pytest.approx(metrics.r2_score(truth, predicted))
    assert found["R2/width"] == pytest.approx(metrics.r2_score(truth[:, 1], predicted[:, 1]))
    assert found["Pearson/age"] == pytest.approx(np.corrcoef(truth[:, 0], predicted[:, 0])[0, 1])
    assert {"MAE", "RMSE", "MAE/age", "RMSE/width"} <= scorer.lower
    assert not {"R2", "Pearson/age"} & scorer.lower


def test_one_number_has_no_metrics_of_its_own(split: Split) -> None:
    scorer = make(split(torch.tensor([[1.0], [2.0]]), ("age",)), "regression")
    assert scored(scorer, torch.tensor([[1.0], [2.0]])) == {"R2": 1, "MAE": 0, "RMSE": 0, "Pearson": 1}


def test_images_without_label_are_left_out_and_counted(split: Split) -> None:
    scores = rows(0, 5, 3)
    truth = torch.tensor([-1, 0, 1, -1, 1])
    scorer = make(split(truth), "single")
    found = scored(scorer, scores)
    kept = truth >= 0
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth[kept], scores[kept].argmax(dim=1)))
    assert found["F1/owl"] == found["recall/owl"] == -1
    own = torch.nn.functional.one_hot(truth[kept], 3)
    assert found["AUROC"] == pytest.approx(metrics.roc_auc_score(own[:, :2], scores[kept][:, :2], average="macro"))
    assert scorer.notes() == [
        "2 of 5 images have no label and are left out",
        "left out of the means, because no image has it: owl",
    ]
    numbers = make(split(torch.tensor([[1.0, 2], [torch.nan, 3], [5, 5]]), ("a", "b")), "regression")
    assert scored(numbers, torch.tensor([[1.0, 2], [9, 9], [5, 6]]))["MAE"] == 0.25
    assert numbers.notes() == ["1 of 3 images have no label and are left out"]


def test_multi_without_positives_or_negatives(split: Split) -> None:
    truth = torch.tensor([[1, 0, 1], [1, 0, 0]], dtype=torch.uint8)
    scorer = make(split(truth), "multi")
    found = scored(scorer, torch.tensor([[0.9, 0.9, 0.2], [0.8, 0.1, 0.6]]))
    assert (found["AP/cat"], found["AP/dog"], found["AP/owl"]) == (1, -1, 0.5)
    assert (found["AUROC/cat"], found["AUROC/dog"], found["AUROC/owl"]) == (-1, -1, 0)
    assert (found["mAP"], found["AUROC"], found["F1"]) == (0.75, 0, 0.5)
    assert scorer.notes() == ["left out of the means, because no image has it: dog"]


@pytest.mark.parametrize("target", ["single", "multi", "ordinal", "regression"])
def test_one_image_and_none(target: Any, split: Split) -> None:
    labels = {"multi": torch.tensor([[0, 1, 0]] * 2, dtype=torch.uint8), "regression": torch.tensor([[1.0, 2, 3]] * 2)}
    scorer = make(split(labels.get(target, torch.tensor([1, 1]))), target)
    right = torch.tensor([[1.0, 2, 3]]) if target == "regression" else torch.tensor([[0.1, 0.8, 0.1]])
    found = scored(scorer, right)
    best = {"single": "accuracy", "multi": "exact_match", "ordinal": "accuracy", "regression": "MAE"}[target]
    assert found[best] == (0 if target == "regression" else 1)
    assert set(scored(scorer, right[:0]).values()) == {-1}


def test_constant_numbers_are_noted(split: Split) -> None:
    scorer = make(split(torch.tensor([[1.0, 5], [2, 5]]), ("a", "b")), "regression")
    found = scored(scorer, torch.tensor([[1.0, 5], [2, 6]]))
    assert (found["R2"], found["R2/b"], found["Pearson/b"]) == (1, -1, -1)
    assert scorer.notes() == ["R2 and Pearson cannot be measured where all annotated numbers are alike: b"]


def test_plain_classes_under_a_multi_label_head(split: Split) -> None:
    found = scored(make(split(torch.tensor([2, 0, -1])), "multi"), torch.eye(3)[[2, 0, 1]])
    assert found["exact_match"] == 1
    assert found["AP/dog"] == -1


def test_target_of_a_plug_in(split: Split) -> None:
    config = Experiment(heads={"label": PluginHeadConfig(name="mine", options={"target": "multi"})})
    annotations = split(torch.zeros(2, 3, dtype=torch.uint8))
    assert ClassificationScorer("label", config, annotations, annotations.label_map).main_metric == "mAP"


def test_labels_of_another_kind(split: Split) -> None:
    with pytest.raises(UserError, match=r"labels\.csv: its labels are of the kind 'regression'.*target is 'single'"):
        scored(make(split(torch.zeros(2, 3)), "single"), rows(0, 2, 3))
    with pytest.raises(UserError, match=r"kind 'single'.*target is 'regression'"):
        scored(make(split(torch.zeros(2, dtype=torch.int64)), "regression"), rows(0, 2, 3))


@pytest.mark.parametrize(
    ("target", "files"),
    [
        ("single", {"label_confusion.png", "label_calibration.png"}),
        ("multi", {"label_calibration.png"}),
        ("ordinal", {"label_confusion.png"}),
        ("regression", {"label_numbers.png"}),
    ],
)
def test_pictures(target: Any, files: set[str], split: Split, tmp_path: Path) -> None:
    labels = {"multi": torch.eye(3, dtype=torch.uint8), "regression": torch.eye(3)}
    scorer = make(split(labels.get(target, torch.tensor([0, 1, 1])), ("$a$", "$b_{", "c")), target)
    scorer.draw(tmp_path)
    assert list(tmp_path.iterdir()) == []
    scored(scorer, rows(0, 3, 3))
    scorer.draw(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == files
    for file in tmp_path.iterdir():
        picture = cv2.imread(str(file))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 10
