"""Class weights counted in the training data, against scikit-learn and against pixels counted one by one."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from backbones import UserError
from heads.contract import IGNORED
from tasks import training_statistics
from tasks.config import ClassificationConfig, Experiment, FasterRCNNConfig, SegmentationConfig, UNetConfig
from tasks.data.annotations import Annotations
from tasks.data.files.mask_files import MaskFiles
from tasks.data.names import Names
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.label_map import LabelMap
from tasks.training_statistics import fill_from_data

NAMES = ("cat", "dog", "owl")
Bytes = npt.NDArray[np.uint8]


def weights(head: ClassificationConfig | SegmentationConfig, annotations: Annotations) -> list[float]:
    """What "balanced" becomes."""
    head.class_weights = "balanced"
    fill_from_data(Experiment(heads={"own": head}), annotations)
    assert head.class_weights not in (None, "balanced")
    return list(head.class_weights)


def labelled(labels: torch.Tensor) -> Annotations:
    return pack_images(
        split="train",
        root=Path("data"),
        label_map=LabelMap(ids=(0, 1, 2), names=NAMES),
        report=ReadReport("data"),
        names=[f"{index}.png" for index in range(len(labels))],
        image_labels=labels,
    )


@pytest.mark.parametrize("target", ["single", "ordinal"])
def test_labels_as_scikit_learn(target: str) -> None:
    labels = np.random.default_rng(0).choice(3, 200, p=[0.7, 0.25, 0.05])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    with_unknown = torch.from_numpy(np.concatenate([labels, [-1] * 50]))
    found = weights(ClassificationConfig.model_validate({"target": target}), labelled(with_unknown))
    assert found == pytest.approx(expected, abs=1e-6)


def test_several_labels_are_weighed_against_their_absence() -> None:
    labels = torch.tensor([[1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.uint8)
    found = weights(ClassificationConfig(target="multi"), labelled(labels))
    assert found == pytest.approx([2 / 3, 4 / 1, 3 / 2], abs=1e-6)


def test_plain_labels_of_a_head_for_several() -> None:
    found = weights(ClassificationConfig(target="multi"), labelled(torch.tensor([0, 0, 0, 1, 2, -1])))
    assert found == pytest.approx([2 / 3, 4, 4], abs=1e-6)


def test_class_that_no_image_has() -> None:
    with pytest.raises(UserError, match=r"heads\.own\.class_weights is balanced, but nothing of 'owl' is in"):
        weights(ClassificationConfig(), labelled(torch.tensor([0, 1, 1])))


def test_numbers_have_no_balance() -> None:
    with pytest.raises(UserError, match=r"heads\.own\.class_weights is balanced, but numbers have no classes"):
        weights(ClassificationConfig(target="regression"), labelled(torch.rand(4, 3)))


def test_given_weights_stay() -> None:
    heads = {"a": ClassificationConfig(class_weights=(1, 2, 3)), "b": ClassificationConfig(), "c": FasterRCNNConfig()}
    config = Experiment.model_validate({"heads": heads})
    before = config.model_copy(deep=True)
    fill_from_data(config, labelled(torch.tensor([0, 1, 1])))
    assert config == before


@pytest.fixture
def masked(tmp_path: Path) -> Callable[..., Annotations]:
    """`masked(masks, planes)`: a split of these stored masks, of black images."""

    def make(masks: list[list[Bytes]]) -> Annotations:
        names = []
        for number, planes in enumerate(masks):
            cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros(planes[0].shape, np.uint8))
            for plane, mask in enumerate(planes):
                names.append(f"mask_{number}_{plane}.png")
                cv2.imwrite(str(tmp_path / names[-1]), mask)
        return pack_images(
            split="train",
            root=tmp_path,
            label_map=LabelMap(ids=(1, 2, 7), names=NAMES),
            report=ReadReport("data"),
            names=[f"{number}.png" for number in range(len(masks))],
            mask_files=MaskFiles(Names.pack(names), len(masks[0]), ignored=IGNORED),
        )

    return make


@pytest.fixture
def one_plane() -> list[list[Bytes]]:
    """Index masks of several sizes, with an id that is no class, and pixels to ignore."""
    draw = np.random.default_rng(0)
    values = np.array([0, 1, 2, 7, 9, IGNORED], np.uint8)
    return [[draw.choice(values, size, p=[0.5, 0.2, 0.1, 0.05, 0.05, 0.1])] for size in ((9, 7), (4, 12), (8, 8))]


def pixels(masks: list[list[Bytes]]) -> list[int]:
    return [int(value) for (mask,) in masks for value in mask.reshape(-1)]


@pytest.mark.parametrize("background", [True, False])
def test_pixels_of_classes(background: bool, masked: Callable[..., Annotations], one_plane: list[list[Bytes]]) -> None:
    classes = [{1: 1, 2: 2, 7: 3}.get(value, 0) for value in pixels(one_plane) if value != IGNORED]
    if not background:
        classes = [label for label in classes if label]
    expected = compute_class_weight("balanced", classes=np.unique(classes), y=np.array(classes))
    found = weights(UNetConfig(background=background), masked(one_plane))
    assert found == pytest.approx(expected, abs=1e-6)
    assert len(found) == 3 + background


def test_pixels_of_one_class_against_all_others(
    masked: Callable[..., Annotations], one_plane: list[list[Bytes]]
) -> None:
    from dataclasses import replace

    single = replace(masked(one_plane), label_map=LabelMap(ids=(2,), names=("dog",)))
    known = [value for value in pixels(one_plane) if value != IGNORED]
    inside = sum(value == 2 for value in known)
    assert weights(UNetConfig(target="binary"), single) == pytest.approx([(len(known) - inside) / inside], abs=1e-6)


def test_pixels_of_overlapping_classes(masked: Callable[..., Annotations]) -> None:
    """A pixel that is ignored for one class counts for the others."""
    draw = np.random.default_rng(1)
    masks = [[draw.choice(np.array([0, 1, IGNORED], np.uint8), (6, 8)) for _ in NAMES] for _ in range(2)]
    expected = []
    for plane in range(3):
        values = [int(value) for planes in masks for value in planes[plane].reshape(-1)]
        expected.append(values.count(0) / values.count(1))
    assert weights(UNetConfig(target="multilabel"), masked(masks)) == pytest.approx(expected, abs=1e-6)


def test_class_that_no_mask_has(masked: Callable[..., Annotations], one_plane: list[list[Bytes]]) -> None:
    for (mask,) in one_plane:
        mask[mask == 7] = 0
    with pytest.raises(UserError, match="nothing of 'owl' is in the training data"):
        weights(UNetConfig(), masked(one_plane))
    for (mask,) in one_plane:
        mask[mask == 0] = 7
        mask[mask == 9] = 7
    with pytest.raises(UserError, match="nothing of 'background' is in the training data"):
        weights(UNetConfig(), masked(one_plane))


def test_rare_class_beyond_the_images_that_are_counted(
    masked: Callable[..., Annotations], one_plane: list[list[Bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_statistics, "MASKS_COUNTED", 2)
    for (mask,) in (one_plane[0], one_plane[2]):  # evenly spread: the first and the last
        mask[mask == 7] = 0
    found = weights(UNetConfig(), masked(one_plane))
    assert len(found) == 4
    monkeypatch.undo()
    assert found == weights(UNetConfig(), masked(one_plane))
