"""Samples joined with others are pure functions of their keys; objects bring their own labels along."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.errors import UserError
from tasks.config import AugmentConfig, DataConfig, Experiment, ScheduleConfig
from tasks.data.annotations import Annotations
from tasks.data.augmentation.combinations import require_outlines_to_paste
from tasks.data.augmentation.geometry import boxes_of
from tasks.data.dataset import Dataset
from tasks.data.formats.coco import CocoFolder
from tasks.data.loader import TrainingLoader
from tasks.data.mixture import Ingredient, Mixture
from tasks.data.sample import Sample, SampleKey
from tasks.data.wanted import Wanted
from tasks.image_spec import ImageSpec
from tests.conftest import Command

BOTH = {"mosaic": 0.7, "copy_paste": 0.7, "scale_jitter": (0.7, 1.3), "rotate": 20.0}
INSTANCES, PIXELS = Wanted(outlines=True), Wanted(boxes=False, masks="one")


@pytest.fixture(scope="module")
def cells(tiny_data: Path) -> Annotations:
    return CocoFolder(tiny_data).read("train", masks=True)


def dataset(split: Annotations, augment: dict[str, Any], wanted: Wanted | None = None, **options: Any) -> Dataset:
    config = DataConfig(short_side=(64,), long_side=64, augment=AugmentConfig.model_validate(augment))
    return Dataset(split, config, ImageSpec(), seed=3, training=True, wanted=wanted, **options)


def same(first: Sample, second: Sample) -> bool:
    names = ("image", "boxes", "labels", "crowd", "outlines", "masks", "outlined")
    pairs = [(getattr(first, name), getattr(second, name)) for name in names]
    return all(a is b if a is None or b is None else np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("wanted", [Wanted(), INSTANCES, PIXELS, Wanted(outlines=True, masks="each")])
def test_a_sample_is_a_function_of_its_key(cells: Annotations, wanted: Wanted) -> None:
    data, again = (dataset(cells, BOTH, wanted) for _ in range(2))
    keys = [SampleKey(index, epoch) for index in range(4) for epoch in range(3)]
    samples = {key: data[key] for key in keys}
    for key in reversed(keys):
        assert same(samples[key], again[key])
    assert not same(samples[SampleKey(0, 0)], samples[SampleKey(0, 1)])
    for sample in samples.values():
        assert len(sample.boxes) == len(sample.labels) == len(sample.crowd)
        assert (sample.outlines is None) is (sample.outlined is None) is (not wanted.outlines)
        if sample.outlines is not None:
            assert sample.outlines.shape == (len(sample.boxes), *sample.image.shape[:2])
            assert np.abs(boxes_of(sample.outlines) - sample.boxes).max(initial=0) <= 1
        assert (sample.masks is None) is (wanted.masks is None)


def test_boxes_are_the_same_whether_or_not_outlines_are_targets(cells: Annotations) -> None:
    alone, whole = dataset(cells, BOTH), dataset(cells, BOTH, INSTANCES)
    for epoch in range(5):
        np.testing.assert_array_equal(alone[SampleKey(1, epoch)].boxes, whole[SampleKey(1, epoch)].boxes)


def test_objects_keep_their_labels(cells: Annotations) -> None:
    """The pixels of an object have the class that the semantic mask, joined on its own, has there."""
    data, checked = dataset(cells, BOTH, Wanted(outlines=True, masks="each")), 0
    for index in range(10):
        for epoch in range(4):
            sample = data[SampleKey(index, epoch)]
            assert sample.outlines is not None
            assert sample.masks is not None
            for outline, label in zip(sample.outlines, sample.labels.tolist(), strict=True):
                assert (sample.masks[:, :, label][outline > 0] == 1).all()
                checked += 1
    assert checked > 200


def test_a_spawned_worker_gets_all_of_it(cells: Annotations) -> None:
    data = dataset(cells, BOTH, INSTANCES, mosaic_until=5)
    sent = pickle.loads(pickle.dumps(data))
    for epoch in (0, 5):
        assert same(data[SampleKey(2, epoch)], sent[SampleKey(2, epoch)])


@pytest.mark.parametrize("sources", [1, 2])
def test_workers_do_not_change_a_thing(cells: Annotations, monkeypatch: pytest.MonkeyPatch, sources: int) -> None:
    """Nor of several data sets, whose images are joined with others of their own."""
    monkeypatch.setattr("tasks.data.loader.cores_here", lambda: 2)

    def steps(workers: int) -> list[Any]:
        config = DataConfig(
            short_side=(64,), long_side=64, batch_size=4, workers=workers, augment=AugmentConfig.model_validate(BOTH)
        )
        parts = [cells] if sources == 1 else [cells.select(range(6), "a"), cells.select(range(6, 10), "b")]
        mixed = Mixture([Ingredient(part.split, part, config, INSTANCES, (True,)) for part in parts])
        split = cells if sources == 1 else mixed
        loader = TrainingLoader(split, config, ImageSpec(), seed=3, divisor=32, wanted=INSTANCES)
        return [batch for epoch in (0, 1) for [batch] in loader.steps(epoch, start=1)]

    alone, helped = steps(0), steps(2)
    assert len(alone) == len(helped) == 2
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets.boxes.boxes, other.targets.boxes.boxes)
        assert torch.equal(one.targets.boxes.labels, other.targets.boxes.labels)
        assert torch.equal(one.targets.boxes.outlines.bits, other.targets.boxes.outlines.bits)
        assert one.files == other.files
        assert any(" joined with " in file for file in one.files)
        for file in one.files if sources == 2 else ():
            names = file.replace(" joined with ", " and ").split(" and ")
            assert len({str(cells.file(6)) <= name for name in names}) == 1, file


def test_messages_name_all_images(cells: Annotations) -> None:
    for augment, count in (
        ({}, 1),
        ({"copy_paste": 1.0}, 2),
        ({"mosaic": 1.0}, 4),
        ({"mosaic": 1.0, "copy_paste": 1.0}, 5),
    ):
        data = dataset(cells, augment)
        names = data[SampleKey(0, 0)].file.replace(" joined with ", " and ").split(" and ")
        assert len(names) == count
        assert names[0] == str(cells.file(0))
        assert all(Path(name).is_file() for name in names)


@pytest.mark.parametrize("name", ["mosaic", "copy_paste"])
def test_how_many_are_joined(cells: Annotations, name: str) -> None:
    keys = [SampleKey(index, epoch) for index in range(10) for epoch in range(8)]
    never, sometimes, always = (dataset(cells, {name: share}) for share in (0.0, 0.3, 1.0))
    unchanged = [same(sometimes[key], never[key]) for key in keys]
    assert 40 < sum(unchanged) < 72  # 80 * 0.7
    changed = [key for key, kept in zip(keys, unchanged, strict=True) if not kept]
    assert all(same(sometimes[key], always[key]) for key in changed), "how often does not change how"
    assert not any(same(always[key], never[key]) for key in keys)


@pytest.mark.parametrize(("bit_depth", "channels"), [(16, 3), (32, 1), (8, 1), (16, 1)])
def test_all_of_the_depth(cells: Annotations, bit_depth: int, channels: int) -> None:
    spec = ImageSpec(channels=channels, bit_depth=bit_depth, mean=(0.5,) * channels, std=(0.2,) * channels)
    config = DataConfig(size=(40, 40), augment=AugmentConfig(mosaic=1.0, copy_paste=1.0, mosaic_scale=(0.3, 0.9)))
    data = Dataset(cells, config, spec, training=True)
    sample = data[SampleKey(0, 0)]
    assert sample.image.dtype == {8: np.uint8, 16: np.uint16, 32: np.float32}[bit_depth]
    assert sample.image.shape == (40, 40, channels)
    # The images of all depths are the same eight-bit files, and so is what is drawn.
    shallow = Dataset(cells, config, ImageSpec(channels=channels, mean=spec.mean, std=spec.std), training=True)
    white = 257 if bit_depth == 16 else 1
    difference = np.abs(sample.image.astype(float) / white - shallow[SampleKey(0, 0)].image)
    assert np.median(difference) <= 1


def test_the_last_epochs_are_without_mosaic(cells: Annotations) -> None:
    plain, closing = dataset(cells, {}), dataset(cells, {"mosaic": 1.0}, mosaic_until=2)
    assert [same(plain[SampleKey(0, epoch)], closing[SampleKey(0, epoch)]) for epoch in range(4)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("schedule", "last"),
    [({"epochs": 5}, 3), ({"epochs": 99, "steps": 9}, 3), ({"steps": 10}, 3), ({"steps": 6}, 1)],
)
def test_which_epochs_are_the_last(cells: Annotations, schedule: dict[str, int], last: int) -> None:
    """Of 10 images in batches of 4, that is of 2 steps an epoch, with 2 epochs to close."""
    config = DataConfig(
        short_side=(64,), long_side=64, batch_size=4, workers=0, augment=AugmentConfig(mosaic=1.0, close_mosaic=2)
    )
    options = {"seed": 3, "divisor": 32}
    closing = TrainingLoader(cells, config, ImageSpec(), schedule=ScheduleConfig(**schedule), **options)  # type: ignore[arg-type]
    whole = TrainingLoader(cells, config, ImageSpec(), **options)  # type: ignore[arg-type]

    def equal(epoch: int) -> bool:
        [[one], _], [[other], _] = closing.steps(epoch), whole.steps(epoch)
        return torch.equal(one.images, other.images)

    assert [equal(epoch) for epoch in (last - 1, last)] == [True, False]


def test_no_epoch_with_mosaic_is_refused(cells: Annotations) -> None:
    config = DataConfig(batch_size=4, workers=0, augment=AugmentConfig(mosaic=1.0, close_mosaic=10))
    with pytest.raises(UserError, match=r"close_mosaic is 10, but training takes 4 epochs; expected fewer"):
        TrainingLoader(cells, config, ImageSpec(), seed=0, divisor=32, schedule=ScheduleConfig(epochs=4))


def test_crowds_and_what_has_no_outline_are_not_pasted(tiny_data: Path, tmp_path: Path) -> None:
    content = json.loads((tiny_data / "annotations/instances_train.json").read_text())
    for number, annotation in enumerate(content["annotations"]):
        annotation["iscrowd"] = int(number % 3 == 0)
        if number % 3 == 1:
            del annotation["segmentation"]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").symlink_to(tiny_data / "train")
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(content))
    split = CocoFolder(tmp_path).read("train", masks=True)
    plain, pasting = (dataset(split, {"copy_paste": share}, INSTANCES) for share in (0.0, 1.0))
    more = 0
    for index in range(10):
        for epoch in range(3):
            before, after = plain[SampleKey(index, epoch)], pasting[SampleKey(index, epoch)]
            assert after.outlined is not None
            assert before.outlined is not None
            assert after.crowd.sum() <= before.crowd.sum()
            assert (~after.outlined).sum() <= (~before.outlined).sum()
            more += int((after.outlined & ~after.crowd).sum()) - int((before.outlined & ~before.crowd).sum())
    assert more > 10


def test_a_split_without_outlines_is_refused(cells: Annotations, tiny_data: Path) -> None:
    config = DataConfig(augment=AugmentConfig(copy_paste=0.5))
    require_outlines_to_paste(config, cells)
    boxes_alone = CocoFolder(tiny_data).read("train")
    require_outlines_to_paste(DataConfig(), boxes_alone)
    with pytest.raises(UserError, match=r"'train' has an outline, by which data\.augment\.copy_paste \(0\.5\) cuts"):
        require_outlines_to_paste(config, boxes_alone)


def test_training_a_detector_with_both(tiny: Experiment, written: Any, command: Command, tmp_path: Path) -> None:
    """Its head reads boxes alone, so that outlines are read for pasting only."""
    tiny.data.augment = AugmentConfig(mosaic=0.5, copy_paste=0.5)
    said = command("train", written(tiny), "--out", tmp_path / "run")
    assert said.code == 0, said.error


def test_what_cannot_be_joined_is_told_in_one_line(
    tiny_labels: Experiment, written: Any, command: Command, tmp_path: Path
) -> None:
    tiny_labels.data.augment = AugmentConfig(mosaic=0.5)
    said = command("train", written(tiny_labels), "--out", tmp_path / "run")
    assert said.complaint.startswith("data.augment.mosaic is 0.5, but a head learns from labels of whole images")
