"""The same samples whatever the processes, and mistakes that arrive as they were made."""

import contextlib
import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from backbones.errors import UserError
from tasks.config import AugmentConfig, DataConfig
from tasks.data.annotations import Annotations
from tasks.data.dataset import Dataset
from tasks.data.formats.coco import CocoFolder
from tasks.data.formats.voc import VocFolder
from tasks.data.loader import TrainingLoader, evaluation_loader
from tasks.data.sample import Batch, SampleKey
from tasks.data.wanted import Wanted
from tasks.image_spec import ImageSpec

AUGMENT = AugmentConfig(vertical_flip=0.5, scale_jitter=(0.8, 1.2))


@pytest.fixture
def split(coco_content: Callable[..., Any], write_coco: Callable[..., Path]) -> Annotations:
    return CocoFolder(write_coco(coco_content(22))).read("train")


def config(**options: Any) -> DataConfig:
    return DataConfig(**{"short_side": (32, 48), "long_side": 96, "batch_size": 4, "augment": AUGMENT, **options})


def loader(split: Annotations, workers: int = 0, start_method: str | None = None, **options: Any) -> TrainingLoader:
    settings = {"seed": 3, "divisor": 32, **options}
    return TrainingLoader(split, config(workers=workers), ImageSpec(), start_method=start_method, **settings)


def assert_equal(first: Batch, second: Batch) -> None:
    assert (first.files, first.image_ids, first.sizes.padded) == (second.files, second.image_ids, second.sizes.padded)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.targets.seeds, second.targets.seeds)
    assert torch.equal(first.sizes.valid, second.sizes.valid)
    ours, theirs = first.targets.boxes, second.targets.boxes
    assert ours is not None
    assert theirs is not None
    for name in ("boxes", "labels", "crowd", "annotated"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize(("workers", "method"), [(1, "fork"), (2, "fork"), (1, "spawn")])
def test_workers_do_not_change_a_thing(
    split: Annotations, monkeypatch: pytest.MonkeyPatch, workers: int, method: str
) -> None:
    monkeypatch.setattr("tasks.data.loader.cores_here", lambda: 2)
    alone, helped = loader(split), loader(split, workers, method)
    for epoch in (0, 1):
        steps = list(alone.steps(epoch))
        assert len(steps) == alone.steps_per_epoch == 5
        for [ours], [theirs] in zip(steps, helped.steps(epoch), strict=True):
            assert_equal(ours, theirs)


@pytest.mark.parametrize("workers", [0, 1])
def test_going_on_in_the_middle_of_an_epoch(split: Annotations, workers: int) -> None:
    whole = list(loader(split).steps(2))
    resumed = loader(split, workers)
    for start in (3, 1, 5):
        rest = list(resumed.steps(2, start))
        assert len(rest) == 5 - start
        for [ours], [theirs] in zip(rest, whole[start:], strict=True):
            assert_equal(ours, theirs)


def test_leaving_an_epoch_early(split: Annotations) -> None:
    whole = list(loader(split).steps(1))
    left = loader(split, 1)
    next(left.steps(0))
    for [ours], [theirs] in zip(left.steps(1), whole, strict=True):
        assert_equal(ours, theirs)


def test_two_processes_and_two_passes_see_what_one_would(split: Annotations) -> None:
    whole = list(loader(split).steps(0))
    ranks = [loader(split, rank=rank, world_size=2, passes=2).steps(0) for rank in (0, 1)]
    for [batch], *parts in zip(whole, *ranks, strict=True):
        assert [len(part) for part in parts] == [2, 2]
        together = [one for part in parts for one in part]
        assert [file for one in together for file in one.files] == list(batch.files)
        for row, one in enumerate(together):
            height, width = one.sizes.valid[0].tolist()
            assert torch.equal(one.images[0, :, :height, :width], batch.images[row, :, :height, :width])
            assert one.targets.seeds[0] == batch.targets.seeds[row]


def test_evaluation_is_complete_and_repeatable(split: Annotations) -> None:
    ids = []
    for rank in (0, 1):
        batches = evaluation_loader(split, config(workers=1), ImageSpec(), divisor=32, rank=rank, world_size=2)
        first, second = list(batches), list(batches)
        assert len(first) == len(batches)
        for ours, theirs in zip(first, second, strict=True):
            assert_equal(ours, theirs)
        ids += [image_id for batch in first for image_id in batch.image_ids]
        assert {min(size) for batch in first for size in batch.sizes.valid.tolist()} == {48}
    assert sorted(ids) == sorted(split.image_ids.tolist())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_told_in_one_line(split: Annotations, workers: int) -> None:
    file = split.file(5)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError) as error:
        list(loader(split, workers).steps(0))
    assert str(error.value).startswith(f"{file}: the image is cut off or damaged")
    assert "\n" not in str(error.value)


def test_a_mistake_does_not_keep_the_workers(split: Annotations) -> None:
    split.file(5).write_bytes(b"")
    failing = loader(split, 1)
    seen = weakref.ref(failing._loader)
    gc.disable()
    try:
        with contextlib.suppress(UserError):
            list(failing.steps(0))
        del failing
        assert seen() is None
    finally:
        gc.enable()


def test_boxes_are_clipped_to_the_image_that_was_read(
    coco_content: Callable[..., Any], write_coco: Callable[..., Path]
) -> None:
    content = coco_content(3)
    root = write_coco(content)
    file = root / "annotations/instances_train.json"
    for image in content["images"]:
        image["height"] = image["width"] = 0
    content["annotations"][0].update(bbox=[-5, 5, 1000, 10], iscrowd=1)
    content["annotations"][1]["bbox"] = [500, 500, 10, 10]

    file.write_text(json.dumps(content))
    dataset = Dataset(
        CocoFolder(root).read("train", masks=True),
        config(short_side=(40,)),
        ImageSpec(),
        training=False,
        wanted=Wanted(outlines=True),
    )
    sample = dataset[SampleKey(0, 0)]
    assert sample.boxes.tolist() == [[0, 5, 64, 15]]
    assert sample.labels.tolist() == [0]
    assert sample.crowd.tolist() == [True]
    assert sample.outlines is not None
    assert sample.outlines.shape == (1, 40, 64)
    assert sample.original_size == (40, 64)
    assert (sample.boxes.dtype, sample.labels.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("training", [False, True])
def test_which_objects_have_an_outline(
    coco_content: Callable[..., Any], write_coco: Callable[..., Path], training: bool
) -> None:
    """It stays with its object when others are cut away; whoever has none fills its box."""
    content = coco_content(3)
    content["annotations"][1]["segmentation"] = []
    content["annotations"][2].pop("segmentation")
    content["annotations"][3]["segmentation"] = {"size": [60, 36], "counts": [60 * 10, 60, 60 * 25]}
    split = CocoFolder(write_coco(content)).read("train", masks=True)
    assert [split.outlined(index).tolist() for index in range(3)] == [[True, False], [False, True], []]
    assert not split.select([1], "some").outlined(0)[0]
    changes = {"horizontal_flip": 0.5, "crop": (20, 20), "rotate": 20.0} if training else {}
    settings = config(short_side=(40,), augment=AugmentConfig.model_validate(changes))
    dataset = Dataset(split, settings, ImageSpec(), training=training, wanted=Wanted(outlines=True))
    kept: set[tuple[int, bool]] = set()
    for index in range(3):
        for epoch in range(20 if training else 1):
            sample = dataset[SampleKey(index, epoch)]
            assert sample.outlined is not None
            assert sample.outlines is not None
            assert len(sample.outlined) == len(sample.outlines) == len(sample.labels)
            # Of the two objects of an image the first is a cat (0), the second a dog (1).
            pairs = zip(sample.outlined, sample.labels, strict=True)
            kept |= {(index, bool(known) == (label == index)) for known, label in pairs}
    assert kept == {(0, True), (1, True)}
    assert dataset.wanted.outlines
    assert Dataset(split, settings, ImageSpec(), training=training)[SampleKey(0, 0)].outlined is None


def test_samples_change_from_epoch_to_epoch(split: Annotations) -> None:
    dataset = Dataset(split, config(), ImageSpec(), seed=1, training=True)
    seeds = {dataset[SampleKey(index, epoch)].seed for index in range(3) for epoch in range(3)}
    assert len(seeds) == 9
    shapes = {dataset[SampleKey(0, epoch)].image.shape for epoch in range(12)}
    assert len(shapes) > 2


def test_sixteen_bits_reach_the_tensor(tmp_path: Path) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/ramp.png"), ramp)
    text = '{"images": [{"id": 1, "file_name": "ramp.png", "height": 256, "width": 256}], "annotations": [], '
    (tmp_path / "all.json").write_text(text + '"categories": [{"id": 1, "name": "x"}]}')
    spec = ImageSpec(channels=1, bit_depth=16, mean=(0.5,), std=(0.5,))
    batches = evaluation_loader(
        CocoFolder(tmp_path).read("all"), config(short_side=(256,), long_side=256, workers=0), spec, divisor=32
    )
    [batch] = list(batches)
    assert batch.images.dtype == torch.float32
    assert torch.equal(batch.images[0, 0], torch.from_numpy(ramp.astype(np.float32)))


def test_real_images_load(reference_data: Path) -> None:
    for annotations in (
        VocFolder(reference_data / "bccd").read("test"),
        CocoFolder(reference_data / "coco").read("val2017"),
        CocoFolder(reference_data / "nuclei").read("val", masks=True),
    ):
        batches = evaluation_loader(
            annotations, config(short_side=(160,), long_side=320, workers=2, batch_size=8), ImageSpec(), divisor=32
        )
        boxes = 0
        for batch in batches:
            targets = batch.targets.boxes
            assert targets is not None
            boxes += int((targets.labels >= 0).sum())
            limits = batch.sizes.valid.flip(1).repeat(1, 2)[:, None]
            assert (targets.boxes <= limits).all()
        assert boxes == len(annotations.boxes)
