"""Folds: the promises of scikit-learn's StratifiedGroupKFold, kept at least as well as it keeps them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.files.mask_files import MaskFiles
from tasks.data.folds import divide, make_folds
from tasks.data.formats.coco import CocoFolder
from tasks.data.names import Names
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.data.splits import open_folds, open_splits
from tasks.data.wanted import Wanted
from tasks.label_map import LabelMap

Array = np.ndarray[Any, Any]


def images(count: int, classes: int = 3, **others: Any) -> Annotations:
    return pack_images(
        split="all",
        root=Path("data"),
        label_map=LabelMap(ids=tuple(range(classes)), names=tuple(f"c{index}" for index in range(classes))),
        report=ReadReport("data"),
        names=[f"p{index % 7}_{index}.png" for index in range(count)],
        **others,
    )


def require_partition(folds: list[Array], count: int) -> None:
    assert sorted(np.concatenate(folds).tolist()) == list(range(count))
    assert all(len(fold) > 0 for fold in folds)
    assert all((np.diff(fold) > 0).all() for fold in folds)


def unevenness(folds: list[Array], content: Array) -> float:
    """How far the share of any class in any fold is from the even one, at most."""
    shares = np.array([content[fold].sum(axis=0) for fold in folds]) / content.sum(axis=0)
    return float(np.abs(shares - 1 / len(folds)).max())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("folds", [2, 5])
def test_classes_in_equal_shares(seed: int, folds: int) -> None:
    labels = np.random.default_rng(seed).choice(3, 203, p=[0.7, 0.25, 0.05])
    ours = make_folds(images(203, image_labels=torch.from_numpy(labels)), folds, seed)
    require_partition(ours, 203)
    for fold in ours:
        for label in range(3):
            # To the single image, as StratifiedKFold.
            assert abs((labels[fold] == label).sum() - (labels == label).sum() / folds) < 1
    theirs = [test for _, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)]
    sizes = [[len(fold) for fold in own] for own in (ours, theirs)]
    assert max(sizes[0]) - min(sizes[0]) <= max(1, max(sizes[1]) - min(sizes[1]))


def test_groups_are_disjoint_and_classes_as_even_as_sklearns() -> None:
    uneven = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        group = random.choice(60, 400, p=random.dirichlet(np.ones(60)))
        labels = (random.random(60)[group] * 2 + random.random(400)).astype(int)
        names = Names.pack(f"patient {number}" for number in group)
        ours = make_folds(images(400, image_labels=torch.from_numpy(labels), groups=names), 5, seed)
        require_partition(ours, 400)
        assert sum(len(set(group[fold].tolist())) for fold in ours) == len(set(group.tolist()))
        reference = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, group)
        content = np.concatenate([np.eye(3)[labels], np.ones((400, 1))], axis=1)
        uneven.append([unevenness(folds, content) for folds in (ours, [test for _, test in reference])])
    ours_on_average, theirs_on_average = np.mean(uneven, axis=0)  # one alone may be lucky
    assert ours_on_average <= theirs_on_average


def test_the_seed_decides() -> None:
    annotations = images(60, image_labels=torch.arange(60) % 3)
    first, again, other = (make_folds(annotations, 4, seed) for seed in (1, 1, 2))
    assert [fold.tolist() for fold in first] == [fold.tolist() for fold in again]
    assert [fold.tolist() for fold in first] != [fold.tolist() for fold in other]


def test_several_labels_an_image() -> None:
    random = np.random.default_rng(0)
    labels = (random.random((300, 6)) < [0.5, 0.3, 0.1, 0.05, 0.03, 0.02]).astype(np.uint8)
    folds = make_folds(images(300, 6, image_labels=torch.from_numpy(labels)), 5, 0)
    require_partition(folds, 300)
    for fold in folds:
        assert (np.abs(labels[fold].sum(axis=0) - labels.sum(axis=0) / 5) <= 1.5).all()
        assert abs(len(fold) - 60) <= 2


def test_regression_is_spread_over_the_range() -> None:
    numbers = np.random.default_rng(0).exponential(size=(200, 1)).astype(np.float32)
    numbers[:20] = np.nan
    folds = make_folds(images(200, 1, image_labels=torch.from_numpy(numbers)), 4, 0)
    for fold in folds:
        assert np.isnan(numbers[fold]).sum() == 5
        high = numbers[fold] > np.nanquantile(numbers, 0.8)
        assert high.sum() == 9


def test_masks_with_rare_classes() -> None:
    values = torch.zeros(40, 3, 3, dtype=torch.uint8)
    values[:, 0, 0] = 1
    values[::5, 1, 1] = 2
    names = Names.pack(["a.npz"] * 40)
    annotations = images(40, pixels=torch.zeros(40, 3, 3, 1), mask_files=MaskFiles(names, 1, None, values))
    for fold in make_folds(annotations, 4, 0):
        assert len(fold) == 10
        assert (fold % 5 == 0).sum() == 2


def test_boxes_and_file_names(coco_content: Callable[..., Any], write_coco: Callable[..., Path]) -> None:
    content = coco_content(30)
    content["annotations"] = [
        entry for entry in content["annotations"] if entry["category_id"] == 3 or entry["id"] < 112
    ]
    for index, image in enumerate(content["images"]):
        image["file_name"] = f"p{index % 10}_{index}.png"
    annotations = CocoFolder(write_coco(content)).read("train")
    dogs = {entry["image_id"] for entry in content["annotations"] if entry["category_id"] == 9}
    assert len(dogs) == 6
    for fold in make_folds(annotations, 3, 0):
        assert sum(annotations.image_id(int(index)) in dogs for index in fold) == 2
        assert len(fold) == 10
    folds = make_folds(annotations, 3, 0, r"(p\d)_")
    require_partition(folds, 30)
    owners = [{annotations.name(int(index)).split("_")[0] for index in fold} for fold in folds]
    assert sum(map(len, owners)) == 10


def test_frames_of_a_file_stay_together() -> None:
    annotations = images(28, image_labels=torch.arange(28) % 2, frames=torch.arange(28, dtype=torch.int32))
    stacked = pack_images(
        split="all", root=Path("data"), label_map=annotations.label_map, report=ReadReport("data"),
        names=[f"{index // 4}.tif" for index in range(28)], image_labels=annotations.image_labels,
        frames=torch.arange(28, dtype=torch.int32) % 4,
    )  # fmt: skip
    folds = make_folds(stacked, 3, 0)
    require_partition(folds, 28)
    assert sorted(len(fold) for fold in folds) == [8, 8, 12]
    assert all(len(fold[fold % 4 == 0]) * 4 == len(fold) for fold in folds)


def test_unequal_shares_and_many_images() -> None:
    labels = torch.arange(100_000) % 100
    train, val = divide(images(100_000, 100, image_labels=labels), [0.9, 0.1], 0)
    assert (len(train), len(val)) == (90_000, 10_000)
    assert (np.bincount(labels[val].numpy()) == 100).all()


@pytest.mark.parametrize("shares", [[0.999, 0.001], [0.001, 0.999], [0.2] * 5])
def test_no_part_is_empty(shares: list[float]) -> None:
    require_partition(divide(images(5), shares, 0), 5)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="into 4 cannot be made from 3 images in 3 groups; expected at least 4"):
        make_folds(images(3), 4, 0)


def test_folds_of_a_run(coco_content: Callable[..., Any], write_coco: Callable[..., Path]) -> None:
    write_coco(coco_content(12))
    root = write_coco(coco_content(4, "other"), "annotations/instances_val.json", "val")
    held: list[int] = []
    for fold in range(3):
        config = DataConfig(root=root, folds=3, fold=fold)
        train, val, messages = open_splits(config, 5)
        assert not set(train.image_ids.tolist()) & set(val.image_ids.tolist())
        assert len(train) + len(val) == 12
        assert "the split 'val' is not used, since data.folds is set" in messages[0]
        assert f"fold {fold} of 3 is held out: 8 images of 'train' to train on, 4 held out (seed 5)" in messages[1]
        held += val.image_ids.tolist()
    whole = open_folds(config)
    assert sorted(held) == sorted(whole.image_ids.tolist())
    with pytest.raises(UserError, match=r"data\.fold is 3; expected 0 to 2, as data\.folds is 3"):
        open_splits(DataConfig(root=root, folds=3, fold=3), 0)


def test_folds_of_real_labels(reference_data: Path) -> None:
    config = DataConfig(root=reference_data / "pneumonia28", folds=5, fold=2)
    train, val, _ = open_splits(config, 0, Wanted(boxes=False, labels="single"))
    assert val.image_labels is not None
    assert sorted(np.bincount(val.image_labels.numpy()).tolist()) in ([242, 243], [243, 243])
    assert len(train) + len(val) == 2428
