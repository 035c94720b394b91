"""Which images make up which batch, and how samples are padded into one."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.errors import UserError
from tasks.data.batches import BatchPlan, collate
from tasks.data.sample import Sample


def image_sizes(landscape: int, portrait: int) -> npt.NDArray[np.int32]:
    sizes = np.array([(40, 60)] * landscape + [(60, 40)] * portrait, np.int32).reshape(-1, 2)
    return sizes[np.random.default_rng(0).permutation(len(sizes))]


@settings(deadline=None, max_examples=60)
@given(landscape=st.integers(0, 40), portrait=st.integers(0, 40), size=st.integers(1, 9), epoch=st.integers(0, 3))
def test_a_training_epoch(landscape: int, portrait: int, size: int, epoch: int) -> None:
    images = landscape + portrait
    if not images:
        return
    sizes = image_sizes(landscape, portrait)
    plan = BatchPlan(sizes, size, seed=1, training=True)
    batches = plan.batches(epoch)
    assert len(batches) == len(plan) == max(images // size, 1)
    assert {len(batch) for batch in batches} == {min(size, images)}
    seen = np.concatenate(batches).tolist()
    assert len(set(seen)) == len(seen) >= images - size + 1
    mixed = [batch for batch in batches if len({bool(sizes[i, 1] >= sizes[i, 0]) for i in batch}) > 1]
    assert len(mixed) <= 1


def test_epochs_and_seeds_differ_and_repeat() -> None:
    sizes = image_sizes(30, 10)
    orders = [
        [batch.tolist() for batch in BatchPlan(sizes, 4, seed=seed, training=True).batches(epoch)]
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


@pytest.mark.parametrize(("world_size", "passes"), [(1, 1), (2, 1), (1, 3), (2, 2), (4, 3)])
def test_processes_and_passes_see_what_one_would(world_size: int, passes: int) -> None:
    sizes = image_sizes(50, 20)
    plan = BatchPlan(sizes, 12, training=True, world_size=world_size, passes=passes)
    parts = [list(plan.parts(2, rank)) for rank in range(world_size)]
    for step, batch in enumerate(BatchPlan(sizes, 12, training=True).batches(2)):
        together = [key.index for own in parts for part in own[step * passes : (step + 1) * passes] for key in part]
        assert together == batch.tolist()
    assert {len(part) for own in parts for part in own} == {12 // world_size // passes}


def test_starting_in_the_middle() -> None:
    plan = BatchPlan(image_sizes(50, 20), 8, training=True, passes=2)
    assert list(plan.parts(1, start=3)) == list(plan.parts(1))[6:]


def test_a_set_smaller_than_a_batch() -> None:
    plan = BatchPlan(image_sizes(5, 2), 16, training=True)
    assert [len(batch) for batch in plan.batches(0)] == [7]
    plan = BatchPlan(image_sizes(5, 2), 16, training=True, world_size=2)
    assert [len(part) for rank in (0, 1) for part in plan.parts(0, rank)] == [3, 3]
    with pytest.raises(UserError, match="1 training images cannot be divided among 2 processes"):
        BatchPlan(image_sizes(1, 0), 16, training=True, world_size=2)


def test_a_batch_that_cannot_be_divided() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size is 10; expected a multiple of 4"):
        BatchPlan(image_sizes(50, 0), 10, training=True, world_size=2, passes=2)
    with pytest.raises(UserError, match=r"data\.batch_size is 0"):
        BatchPlan(image_sizes(50, 0), 0, training=True)


@pytest.mark.parametrize("images", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_evaluation_takes_every_image_once(images: int, world_size: int) -> None:
    plan = BatchPlan(image_sizes(images - images // 3, images // 3), 4, training=False, world_size=world_size)
    parts = [part for rank in range(world_size) for part in plan.parts(0, rank)]
    assert all(parts)
    assert sorted(key.index for part in parts for key in part) == list(range(images))
    assert list(plan.parts(0)) == list(plan.parts(0))


def weighted(weights: npt.NDArray[np.float64], size: int = 4, **options: int) -> BatchPlan:
    return BatchPlan(image_sizes(len(weights), 0), size, training=True, weights=weights, **options)


def counts(plan: BatchPlan, epoch: int, images: int) -> npt.NDArray[np.int64]:
    return np.bincount(np.concatenate(plan.batches(epoch)), minlength=images)


def test_equal_weights_take_each_image_once() -> None:
    for images in (1, 3, 7, 10, 49, 1000):
        for epoch in range(3):
            assert (counts(weighted(np.full(images, 0.37), 1), epoch, images) == 1).all()


@settings(deadline=None, max_examples=40)
@given(weights=st.lists(st.floats(0, 100), min_size=1, max_size=40), epoch=st.integers(0, 5))
def test_images_are_drawn_in_proportion(weights: list[float], epoch: int) -> None:
    values = np.array(weights)
    if values.sum() < 1e-3:
        return
    plan = weighted(values, 1)
    assert len(plan.batches(epoch)) == len(plan) == len(values)
    expected = values / values.sum() * len(values)
    drawn = counts(plan, epoch, len(values))
    assert (drawn >= np.floor(expected - 1e-9)).all()
    assert (drawn <= np.ceil(expected + 1e-9)).all()


def test_weights_on_average_over_epochs() -> None:
    values = np.random.default_rng(0).uniform(0, 2, 60)
    values[7] = 0
    plan = weighted(values, 4)
    drawn = np.array([counts(plan, epoch, 60) for epoch in range(400)])
    np.testing.assert_allclose(drawn.mean(0), values / values.sum() * 60, atol=0.12)
    assert not drawn[:, 7].any()


def test_no_two_images_keep_each_other_out() -> None:
    plan = weighted(np.array([0.5] * 20 + [1.5] * 20))
    drawn = np.array([counts(plan, epoch, 40) > 0 for epoch in range(200)])
    for first, second in ((0, 1), (7, 8), (0, 19)):
        assert 0.1 < (drawn[:, first] & drawn[:, second]).mean() < 0.4


def test_repeats_of_an_image_are_spread() -> None:
    values = np.ones(200)
    values[0] = 40
    batches = weighted(values, 20).batches(0)
    holding = sum(bool((batch == 0).any()) for batch in batches)
    assert holding >= 8


def test_weighted_epochs_differ_and_repeat() -> None:
    values = np.random.default_rng(0).uniform(0, 2, 30)
    orders = [
        [batch.tolist() for batch in weighted(values, 4, seed=seed).batches(epoch)]
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_no_key_comes_twice() -> None:
    values = np.ones(40)
    values[3], values[8] = 30, 12
    keys = [key for part in weighted(values, 4).parts(2) for key in part]
    assert len(keys) == len(set(keys)) == 40
    repeats = [key.repeat for key in keys if key.index == 3]
    assert repeats == list(range(len(repeats)))
    assert len(repeats) > 9
    ranks = [weighted(values, 4, world_size=2, passes=2).parts(2, rank, start=3) for rank in (0, 1)]
    assert {key for own in ranks for part in own for key in part} == set(keys[12:])


@pytest.mark.parametrize(("images", "size"), [(60, 12), (61, 12), (50, 7), (5, 8)])
def test_repeated_augmentation(images: int, size: int) -> None:
    """Three copies of a third of the images, in one batch but where a batch ends; other images the next epoch."""
    plan = BatchPlan(image_sizes(images, 0), size, seed=1, training=True, repeats=3)
    keys = [[key for part in plan.parts(epoch) for key in part] for epoch in range(30)]
    assert {len(own) for own in keys} == {images // min(size, images) * min(size, images)}
    assert all(len(set(own)) == len(own) for own in keys), "each copy has draws of its own"
    for own in keys:
        drawn = np.unique([key.index for key in own])
        assert len(drawn) <= -(-images // 3)
        assert max(key.repeat for key in own) <= 2
    assert len({key.index for own in keys for key in own}) == images
    for batch in plan.batches(0):
        assert len(np.unique(batch)) <= len(batch) // 3 + 2
    if not images % 2:
        shared = BatchPlan(image_sizes(images, 0), 2 * size, seed=1, training=True, repeats=3, world_size=2)
        alone = BatchPlan(image_sizes(images, 0), 2 * size, seed=1, training=True, repeats=3)
        together = {key for rank in (0, 1) for part in shared.parts(0, rank) for key in part}
        assert together == {key for part in alone.parts(0) for key in part}


def test_repeats_of_a_weighted_draw() -> None:
    values = np.ones(60)
    values[7] = 20
    plan = weighted(values, 12, repeats=3)
    keys = [key for part in plan.parts(0) for key in part]
    assert len(set(keys)) == 60
    drawn = np.bincount([key.index for key in keys], minlength=60)
    assert set((drawn % 3).tolist()) == {0}
    assert drawn[7] > 3


def test_weighted_batches_hold_one_shape() -> None:
    sizes = image_sizes(50, 20)
    plan = BatchPlan(sizes, 6, training=True, weights=np.random.default_rng(0).uniform(0, 1, 70))
    batches = plan.batches(0)
    assert [len(batch) for batch in batches] == [6] * (70 // 6)
    assert len([batch for batch in batches if len({bool(sizes[i, 1] >= sizes[i, 0]) for i in batch}) > 1]) <= 1


def sample(height: int, width: int, boxes: int, channels: int = 3, dtype: type = np.uint8) -> Sample:
    random = np.random.default_rng(height)
    return Sample(
        image=random.integers(1, 200, (height, width, channels)).astype(dtype),
        image_id=height,
        file=f"{height}.png",
        seed=2**62 + height,
        original_size=(2 * height, 2 * width),
        boxes=random.random((boxes, 4)).astype(np.float32),
        labels=random.integers(0, 3, boxes),
        crowd=np.arange(boxes) == 1,
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_collate(dtype: type, channels: int) -> None:
    samples = [
        sample(50, 70, 2, channels, dtype),
        sample(64, 33, 0, channels, dtype),
        sample(20, 20, 3, channels, dtype),
    ]
    batch = collate(samples, 32)
    assert batch.images.shape == (3, channels, 64, 96)
    assert batch.images.dtype == (torch.uint8 if dtype == np.uint8 else torch.float32)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.sizes.padded == (64, 96)
    assert batch.sizes.valid.tolist() == [[50, 70], [64, 33], [20, 20]]
    assert batch.sizes.original.tolist() == [[100, 140], [128, 66], [40, 40]]
    assert batch.targets.seeds.tolist() == [2**62 + h for h in (50, 64, 20)]
    assert (batch.image_ids, batch.files) == ((50, 64, 20), ("50.png", "64.png", "20.png"))
    targets = batch.targets.boxes
    assert targets is not None
    assert targets.boxes.shape == (3, 3, 4)
    assert targets.labels.dtype == torch.int64
    assert targets.annotated.tolist() == [True] * 3
    for row, one in enumerate(samples):
        height, width = one.image.shape[:2]
        image = batch.images[row].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(image[:height, :width], one.image)
        assert image.sum(dtype=np.int64) == one.image.sum(dtype=np.int64)
        count = len(one.boxes)
        np.testing.assert_array_equal(targets.boxes[row, :count], one.boxes)
        assert targets.labels[row].tolist() == [*one.labels.tolist(), *[-1] * (3 - count)]
        assert targets.crowd[row].tolist() == [*one.crowd.tolist(), *[False] * (3 - count)]


def test_collate_outlines() -> None:
    """Eight pixels a byte; those of a sample that brings none are not known."""
    samples = [sample(50, 70, 2), sample(64, 33, 0), sample(20, 20, 3)]
    assert collate(samples, 32).targets.boxes.outlines is None  # type: ignore[union-attr]
    random = np.random.default_rng(0)
    for one in samples:
        one.outlines = random.integers(0, 2, (len(one.boxes), *one.image.shape[:2]), dtype=np.uint8)
        one.outlined = np.arange(len(one.boxes)) != 1
    outlines = collate(samples, 32).targets.boxes.outlines  # type: ignore[union-attr]
    assert outlines is not None
    assert outlines.bits.shape == (3, 3, 64, 12)
    assert outlines.known.tolist() == [[True, False, False], [False] * 3, [True, False, True]]
    drawn = np.unpackbits(outlines.bits.numpy(), axis=-1)
    for row, one in enumerate(samples):
        assert one.outlines is not None
        height, width = one.image.shape[:2]
        np.testing.assert_array_equal(drawn[row, : len(one.boxes), :height, :width], one.outlines)
        assert drawn[row].sum() == one.outlines.sum()
    samples[2].outlines = None
    some = collate(samples, 32).targets.boxes.outlines  # type: ignore[union-attr]
    assert some is not None
    assert some.known.tolist() == [[True, False, False], [False] * 3, [False] * 3]


def test_collate_without_any_box() -> None:
    targets = collate([sample(10, 10, 0)], 32).targets.boxes
    assert targets is not None
    assert targets.boxes.shape == (1, 0, 4)


def test_some_images_of_a_batch() -> None:
    batch = collate([sample(20, 30, boxes=2), sample(40, 10, boxes=0), sample(8, 8, boxes=1)], 32)
    taken = batch.take(torch.tensor([2, 0, 2, 2]))
    assert len(taken) == 4
    assert taken.sizes.padded == batch.sizes.padded
    assert taken.sizes.valid.tolist() == [[8, 8], [20, 30], [8, 8], [8, 8]]
    assert taken.image_ids == tuple(batch.image_ids[number] for number in (2, 0, 2, 2))
    assert torch.equal(taken.images[1], batch.images[0])
    assert taken.targets.boxes is not None
    assert batch.targets.boxes is not None
    assert torch.equal(taken.targets.boxes.boxes[1], batch.targets.boxes.boxes[0])
    assert torch.equal(taken.targets.seeds, batch.targets.seeds[[2, 0, 2, 2]])
