"""Several data sets as one: shares, order and samples, and the targets that a batch of both brings each head."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import UserError
from heads import IGNORED
from tasks.config import DataConfig
from tasks.data.batches import BatchPlan, collate
from tasks.data.dataset import Dataset
from tasks.data.loader import TrainingLoader
from tasks.data.mixture import Ingredient, Mixture
from tasks.data.sample import SampleKey
from tasks.data.splits import open_splits
from tasks.data.wanted import Wanted
from tasks.head_targets import targets_of_head
from tasks.image_spec import ImageSpec
from tasks.seeding import derive_seed

BOXES = Wanted(boxes=True, outlines=True, masks="one")
LABELS = Wanted(boxes=False, labels="single")


def ingredient(name: str, root: Path, wanted: Wanted, ratio: float | None = None, **fields: object) -> Ingredient:
    config = DataConfig.model_validate(
        {"root": root, "size": (64, 64), "batch_size": 4, "workers": 0, "balance": 0.0, **fields}
    )
    train, _, _ = open_splits(config, 0, wanted)
    return Ingredient(name, train, config, wanted, (wanted.boxes, wanted.labels is not None), ratio)


def mixture(root: Path, boxes: float | None = None, labels: float | None = None) -> Mixture:
    own = [ingredient("boxes", root, BOXES, boxes), ingredient("labels", root / "image_labels.csv", LABELS, labels)]
    assert [len(part.annotations) for part in own] == [10, 10]
    return Mixture(own)


@pytest.mark.parametrize(
    ("ratios", "shares"),
    [((None, None), [10, 10]), ((3, 1), [15, 5]), ((1, 2), [7, 13]), ((0.7, 0.3), [14, 6]), ((None, 90), [2, 18])],
)
def test_shares_of_an_epoch(ratios: tuple[float | None, float | None], shares: list[int], tiny_data: Path) -> None:
    mixed = mixture(tiny_data, *ratios)
    assert mixed.shares == shares
    draw = mixed.draw(3)
    assert len(draw) == 20
    for epoch in range(4):
        order = draw(epoch)
        assert [int((order < 10).sum()), int((order >= 10).sum())] == shares


def test_images_of_a_source_are_drawn_equally_often(tiny_data: Path) -> None:
    """Over epochs that take 15 of 10 images and 5 of 10."""
    draw = mixture(tiny_data, 3, 1).draw(3)
    seen = Counter(np.concatenate([draw(epoch) for epoch in range(4)]).tolist())
    assert [seen[image] for image in range(10)] == [6] * 10
    assert [seen[image] for image in range(10, 20)] == [2] * 10
    # Epochs 0 and 1 take the second source once through.
    first, second = (set(draw(epoch)[draw(epoch) >= 10].tolist()) for epoch in (0, 1))
    assert not first & second


def test_order_is_a_function_of_seed_and_epoch(tiny_data: Path) -> None:
    one, other = mixture(tiny_data, 3, 1).draw(3), mixture(tiny_data, 3, 1).draw(3)
    assert other(5).tolist() == one(5).tolist()  # whatever was asked before
    assert one(5).tolist() != one(4).tolist()
    assert mixture(tiny_data, 3, 1).draw(4)(5).tolist() != one(5).tolist()


def test_a_plan_of_a_mixture(tiny_data: Path) -> None:
    mixed = mixture(tiny_data, 3, 1)
    plan = BatchPlan(mixed.sizes.numpy(), 4, seed=3, training=True, draw=mixed.draw(3))
    assert len(plan) == 5
    assert all(len(batch) == 4 for batch in plan.batches(0))
    assert sorted(np.concatenate(plan.batches(1)).tolist()) == sorted(mixed.draw(3)(1).tolist())
    # An image that comes twice is changed in another way the second time.
    keys = [key for part in plan.parts(0) for key in part]
    assert len(set(keys)) == 20
    assert {key.repeat for key in keys} == {0, 1}
    # Two processes see together what one does.
    half = BatchPlan(mixed.sizes.numpy(), 4, seed=3, training=True, draw=mixed.draw(3), world_size=2)
    halves = [list(half.parts(0, rank)) for rank in (0, 1)]
    assert [[*one, *other] for one, other in zip(*halves, strict=True)] == list(plan.parts(0))


def test_samples_are_those_of_their_data_set(tiny_data: Path) -> None:
    mixed = mixture(tiny_data)
    samples = mixed.samples(ImageSpec(), 5, None)
    for number, own in enumerate(mixed.ingredients):
        alone = Dataset(
            own.annotations, own.config, ImageSpec(), seed=derive_seed(5, "source", own.name), training=True,
            wanted=own.wanted,
        )  # fmt: skip
        for index in (0, 9):
            sample, twin = samples[SampleKey(10 * number + index, 2)], alone[SampleKey(index, 2)]
            assert np.array_equal(sample.image, twin.image)
            assert sample.file == twin.file
            assert sample.fed == (number == 0, number == 1)
            assert (sample.masks is None) == (sample.image_labels is not None) == (number == 1)


def test_a_mixed_batch_and_what_each_head_sees_of_it(tiny_data: Path) -> None:
    samples = mixture(tiny_data).samples(ImageSpec(), 5, None)
    own = [samples[SampleKey(index, 0)] for index in (3, 14, 0, 11)]
    batch = collate(own, 32)
    assert batch.fed is not None
    assert batch.fed.tolist() == [[True, False], [False, True], [True, False], [False, True]]
    assert batch.take(torch.tensor([1, 0])).fed.tolist() == [[False, True], [True, False]]  # type: ignore[union-attr]
    boxes = targets_of_head(batch.targets, batch.fed[:, 0], "boxes", 1).boxes
    assert boxes is not None
    assert boxes.annotated.tolist() == [True, False, True, False]
    assert (boxes.labels[1] == -1).all()
    assert boxes.outlines is not None
    assert boxes.outlines.known.any(dim=1).tolist() == [True, False, True, False]
    assert (boxes.labels[0] >= 0).sum() == len(own[0].boxes)
    masks = targets_of_head(batch.targets, batch.fed[:, 0], "masks", 1).masks
    assert masks is not None
    assert masks.annotated.tolist() == [True, False, True, False]
    assert (masks.masks[1] == IGNORED).all()
    # Of another head's classes there may be more, or fewer.
    for width in (1, 2, 4):
        labels = targets_of_head(batch.targets, batch.fed[:, 1], "labels", width).labels
        assert labels is not None
        assert labels.values.shape == (4, width)
        assert labels.annotated.tolist() == [False, True, False, True]
    planes = targets_of_head(batch.targets, batch.fed[:, 0], "masks", 3).masks
    assert planes is not None
    assert planes.masks.shape[1] == 3
    assert (planes.masks[:, 1:] == IGNORED).all()


def test_workers_change_nothing(tiny_data: Path) -> None:
    def batches(workers: int) -> list[list[str]]:
        mixed = mixture(tiny_data, 3, 1)
        config = mixed.ingredients[0].config.model_copy(update={"workers": workers})
        loader = TrainingLoader(mixed, config, ImageSpec(), seed=3, divisor=32)
        assert loader.steps_per_epoch == 5
        found = [list(batch.files) for step in loader.steps(1, start=2) for batch in step]
        return [*found, *([str(int(b.images.sum()))] for step in loader.steps(1, start=2) for b in step)]

    assert batches(2) == batches(0)


def test_a_share_that_is_no_image(tiny_data: Path) -> None:
    with pytest.raises(UserError, match=r"data\.sources\.labels\.ratio is 0\.001.*20 images of an epoch"):
        mixture(tiny_data, 1, 0.001)
