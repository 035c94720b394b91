import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from backbones import UserError
from heads import ImageLabels
from tasks.classification.task import ClassificationTask
from tasks.classification.value_scale import set_value_scale
from tasks.config import ClassificationConfig, Experiment
from tasks.data.annotations import Annotations
from tasks.drawing import Picture
from tasks.image_spec import ImageSpec
from tasks.label_map import LabelMap
from tasks.prediction.from_torch import found_in

Split = Callable[..., Annotations]
LABELS = LabelMap(ids=(0, 1, 2), names=("cat", "dog", "owl"))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written onto pictures."""
    lines: list[str] = []
    write = Picture.write

    def listen(self: Picture, text: str, x: int, y: int, colour: tuple[int, int, int]) -> int:
        lines.append(text)
        return write(self, text, x, y, colour)

    monkeypatch.setattr(Picture, "write", listen)
    return lines


def picture(height: int = 640) -> Picture:
    return Picture(np.zeros((height, 640, 3), np.uint8), 1)


def predicted(target: Any, *scores: float) -> ImageLabels:
    return ImageLabels(torch.tensor(scores), target)


@pytest.mark.parametrize(
    ("labels", "lines"),
    [
        (torch.tensor([2]), ["owl"]),
        (torch.tensor([-1]), ["not annotated"]),
        (torch.tensor([[1, 0, 1]], dtype=torch.uint8), ["cat", "owl"]),
        (torch.tensor([[0, 0, 0]], dtype=torch.uint8), ["none"]),
        (torch.tensor([[1.5, -2, 1e6]]), ["cat 1.5", "dog -2", "owl 1e+06"]),
        (torch.tensor([[1.5, torch.nan, 1]]), ["not annotated"]),
    ],
)
def test_annotated_labels_are_written(labels: Any, lines: list[str], split: Split, said: list[str]) -> None:
    drawn = picture()
    ClassificationTask.draw_truth(drawn, split(labels), 0, LABELS)
    assert said == lines
    assert drawn.pixels.any()


@pytest.mark.parametrize(
    ("prediction", "lines"),
    [
        (predicted("single", 0.2, 0.3, 0.5), ["owl 0.50", "dog 0.30"]),
        (predicted("single", 0.24, 0.22, 0.21), ["cat 0.24"]),
        (predicted("ordinal", 0.4, 0.2, 0.4), ["dog 0.20", "cat 0.40", "owl 0.40"]),
        (predicted("multi", 0.9, 0.1, 0.95), ["owl 0.95", "cat 0.90"]),
        (predicted("multi", 0.1, 0.1, 0.1), ["none"]),
        (predicted("regression", 0.001234, 20, -1), ["cat 0.001234", "dog 20", "owl -1"]),
    ],
)
def test_predicted_labels_are_written(prediction: ImageLabels, lines: list[str], said: list[str]) -> None:
    ClassificationTask.draw(picture(), prediction, LABELS, threshold=0.25)
    assert said == lines


def test_what_does_not_fit_is_counted(said: list[str]) -> None:
    small = picture(height=64)
    many = LabelMap(ids=tuple(range(50)), names=tuple(map(str, range(50))))
    ClassificationTask.draw(small, predicted("multi", *[0.9] * 50), many, threshold=0.5)
    assert 1 < len(said) <= 64 // small.bar
    assert said[-1] == f"and {50 - len(said) + 1} more"


@pytest.mark.parametrize(
    ("prediction", "row"),
    [
        (
            predicted("single", 0.2, 0.3, 0.5),
            {"scores": {"cat": 0.2, "dog": 0.3, "owl": 0.5}, "label": "owl"},
        ),
        (
            predicted("ordinal", 0.4, 0.2, 0.4),
            {"scores": {"cat": 0.4, "dog": 0.2, "owl": 0.4}, "label": "dog"},
        ),
        (
            predicted("multi", 0.5, 0.499, 1.0),
            {"scores": {"cat": 0.5, "dog": 0.499, "owl": 1.0}, "labels": ["cat", "owl"]},
        ),
        (predicted("regression", 1234.5, 0.001, -2), {"values": {"cat": 1234.5, "dog": 0.001, "owl": -2}}),
    ],
)
def test_rows(prediction: ImageLabels, row: dict[str, Any]) -> None:
    (found,) = found_in(prediction).rows(LABELS)
    assert json.loads(json.dumps(found)) == row
    assert found_in(prediction).mask_files("a", LABELS) == ({}, {})


def test_something_must_be_labelled(split: Split) -> None:
    for labels in (None, torch.tensor([-1, -1]), torch.full((2, 3), torch.nan), torch.zeros(0, 3, dtype=torch.uint8)):
        with pytest.raises(UserError, match=r"data/labels\.csv: none of its \d images has a label"):
            ClassificationTask.require(split(labels))
    for labels in (torch.tensor([-1, 0]), torch.zeros(1, 3, dtype=torch.uint8), torch.tensor([[torch.nan], [1.0]])):
        ClassificationTask.require(split(labels))


def test_scale_of_numbers_is_that_of_the_known_ones(split: Split) -> None:
    values = torch.tensor([[10.0, 5], [torch.nan, 99], [30, 5], [20, 5]])
    config = Experiment(
        heads={
            "age": ClassificationConfig(target="regression"),
            "given": ClassificationConfig(target="regression", value_mean=(1.0, 2.0)),
            "kind": ClassificationConfig(),
        }
    )
    set_value_scale(config, split(values, ("a", "b")))
    age, given, kind = config.heads.values()
    assert (age.value_mean, age.value_std) == ((20.0, 5.0), (pytest.approx(200**0.5 / 3**0.5, rel=1e-5), 1.0))
    assert (given.value_mean, given.value_std) == ((1.0, 2.0), age.value_std)
    assert (kind.value_mean, kind.value_std) == (None, None)


def test_a_picture_of_a_small_image(said: list[str]) -> None:
    small = Picture.of(np.full((28, 28, 1), 128, np.uint8), ImageSpec(channels=1, mean=(0.5,), std=(0.5,)))
    ClassificationTask.draw(small, predicted("single", 0.2, 0.3, 0.5), LABELS, 0.5)
    assert said == ["owl 0.50"]
