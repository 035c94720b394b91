"""Samples are pure functions of their keys, mixed ones and repeated ones too."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.config import AugmentConfig, DataConfig
from tasks.data.annotations import Annotations
from tasks.data.batches import collate
from tasks.data.dataset import Dataset
from tasks.data.loader import TrainingLoader
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.data.sample import Sample, SampleKey
from tasks.data.wanted import LabelKind, Wanted
from tasks.image_spec import ImageSpec
from tasks.label_map import LabelMap

SPEC = ImageSpec(channels=1, mean=(0.5,), std=(0.5,))


def split(labels: Any, size: tuple[int, int] = (24, 32), pixels: Any = None, **others: Any) -> Annotations:
    """Images of one brightness, 80 for class 0 and 80 more for each further class."""
    labels = torch.as_tensor(labels)
    if pixels is None:
        shown = labels if labels.ndim == 1 else labels.argmax(1)
        pixels = ((shown + 1) * 80).to(torch.uint8)[:, None, None, None].expand(-1, *size, 1)
    return pack_images(
        split="train",
        root=Path(),
        label_map=LabelMap(ids=(0, 1), names=("dark", "bright")),
        report=ReadReport("memory"),
        names=["a.npz"] * len(labels),
        image_labels=labels,
        pixels=pixels,
        **others,
    )


def dataset(annotations: Annotations, augment: dict[str, Any], kind: LabelKind = "single", **fields: Any) -> Dataset:
    config = DataConfig(size=(24, 32), augment=AugmentConfig.model_validate(augment), **fields)
    return Dataset(annotations, config, SPEC, training=True, wanted=Wanted(False, labels=kind))


def labels_of(sample: Sample) -> Any:
    assert sample.image_labels is not None
    return sample.image_labels


@pytest.mark.parametrize("augment", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}])
def test_labels_are_mixed_as_images(augment: dict[str, float]) -> None:
    data = dataset(split([0] * 6 + [1] * 4), augment)
    mixed = 0
    for index in range(10):
        for epoch in range(10):
            sample = data[SampleKey(index, epoch)]
            values = labels_of(sample)
            assert values.dtype == np.float32
            assert values.sum() == pytest.approx(1, abs=1e-6)
            assert sample.image.dtype == np.uint8
            bright = (sample.image.mean() - 80) / 80
            assert bright == pytest.approx(values[1], abs=0.01)
            mixed += 0.01 < values[1] < 0.99
            again = data[SampleKey(index, epoch)]
            np.testing.assert_array_equal(sample.image, again.image)
            np.testing.assert_array_equal(values, again.image_labels)
    assert 30 < mixed < 70  # the partner is of the other class in 48 % of the cases


def test_partners_come_from_the_whole_split_and_are_augmented() -> None:
    # Each image has a brightness of its own; the left half of those of class 1 is darker, so that a flip can be seen.
    base = torch.arange(20, 220, 10, dtype=torch.uint8)
    pixels = base[:, None, None, None].repeat(1, 24, 32, 1)
    pixels[1::2, :, 16:] += 8
    data = dataset(split([0, 1] * 10, pixels=pixels), {"mixup": 100.0, "horizontal_flip": 0.5})
    seen, turned = set(), set()
    for epoch in range(150):
        sample = data[SampleKey(0, epoch)]
        image, share = sample.image.astype(float), labels_of(sample)[0]
        if share < 1:  # the partner has the other class, and so an odd index
            partner = (image.mean() - share * 20) / (1 - share)
            seen.add(round((partner - 24) / 10))
            turned.add(int(np.sign(image[0, -1, 0] - image[0, 0, 0])))
    assert seen == set(range(1, 20, 2))
    assert turned == {-1, 1}


def test_how_many_are_mixed() -> None:
    data = dataset(split([0] * 5 + [1] * 5), {"mixup": 1.0, "mix_probability": 0.3})
    mixed = sum(labels_of(data[SampleKey(i, e)]).max() < 1 for i in range(10) for e in range(30))
    assert 20 < mixed < 70  # 300 * 0.3 * half of the partners


def test_unknown_labels_are_not_mixed() -> None:
    data = dataset(split([0, -1, -1, -1]), {"mixup": 1.0})
    for epoch in range(10):
        assert len(labels_of(data[SampleKey(1, epoch)])) == 0
        values = labels_of(data[SampleKey(0, epoch)])
        assert values.tolist() == [1, 0]
    targets = collate([data[SampleKey(0, 0)], data[SampleKey(1, 0)]], 32).targets.labels
    assert targets is not None
    assert targets.annotated.tolist() == [True, False]
    assert collate([data[SampleKey(index, 0)] for index in (1, 2)], 32).targets.labels is None


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("multi", np.array([[1, 0], [1, 1]] * 4, np.uint8)),
        ("regression", np.array([[1.5, 7], [2, -1]] * 4, np.float32)),
    ],
)
def test_other_kinds_of_labels(kind: LabelKind, labels: Any) -> None:
    data = dataset(split(labels, pixels=torch.zeros(8, 24, 32, 1, dtype=torch.uint8)), {"mixup": 1.0}, kind)
    values = np.array([labels_of(data[SampleKey(0, epoch)]) for epoch in range(40)])
    # Between the two rows, and more than one place between them.
    share = (values - labels[1]) / (labels[0].astype(float) - labels[1] + 1e-9)
    changing = labels[0] != labels[1]
    assert (share[:, changing] > -1e-5).all()
    assert (share[:, changing] < 1 + 1e-5).all()
    assert len(np.unique(share[:, changing].round(4))) > 10


def test_evaluation_never_mixes() -> None:
    config = DataConfig(size=(24, 32), augment=AugmentConfig(mixup=1.0, erase=1.0, rotate=90))
    data = Dataset(split([0, 1]), config, SPEC, training=False, wanted=Wanted(False, labels="single"))
    for index in (0, 1):
        sample = data[SampleKey(index, 0)]
        assert (sample.image == 80 * (index + 1)).all()
        assert labels_of(sample)[index] == 1


def test_a_repeated_image_is_another_sample() -> None:
    data = dataset(split([0, 1]), {"crop": (8, 8), "noise": 0.2})
    first, second, again, third = (data[SampleKey(0, 3, repeat)] for repeat in (0, 1, 1, 2))
    assert first.seed != second.seed == again.seed
    assert len({first.seed, second.seed, third.seed}) == 3
    assert not np.array_equal(first.image, second.image)
    np.testing.assert_array_equal(second.image, again.image)
    assert data[SampleKey(0, 3)].seed == first.seed


def test_rare_classes_are_drawn_more_often() -> None:
    annotations = split([0] * 36 + [1] * 4)
    wanted = Wanted(False, labels="single")
    for balance, expected in ((0.0, 0.1), (0.5, 0.25), (1.0, 0.5)):
        config = DataConfig(size=(24, 32), batch_size=8, workers=0, balance=balance)
        loader = TrainingLoader(annotations, config, SPEC, seed=0, divisor=32, wanted=wanted)
        assert loader.steps_per_epoch == 5
        values = [
            batch.targets.labels.values
            for epoch in range(6)
            for [batch] in loader.steps(epoch)
            if batch.targets.labels is not None
        ]
        assert len(values) == 30
        assert torch.cat(values)[:, 1].mean().item() == pytest.approx(expected, abs=0.03)


def test_partners_are_balanced_too() -> None:
    data = dataset(split([0] * 45 + [1] * 5), {"mixup": 100.0}, balance=1.0)
    shares = [labels_of(data[SampleKey(0, epoch)])[1] for epoch in range(200)]
    assert 0.35 < np.mean(np.array(shares) > 0.2) < 0.65
