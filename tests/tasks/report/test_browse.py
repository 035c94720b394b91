"""The contact sheet: what is on it is what a training loader gives, for boxes, outlines, masks and labels."""

import re
from pathlib import Path

import numpy as np
import pytest

from tasks.config import AugmentConfig, Experiment
from tasks.data.loader import TrainingLoader
from tasks.data.sample import Sample
from tasks.data.splits import open_splits
from tasks.kinds import wanted_targets
from tasks.label_map import LabelMap
from tasks.report import browse as browsing
from tasks.report.sample_drawing import draw_sample
from tests.tasks.report.test_report import check


@pytest.mark.parametrize("kind", ["tiny", "tiny_instances", "tiny_masks", "tiny_labels"])
def test_a_page_for_each_kind(kind: str, request: pytest.FixtureRequest, written, command, tmp_path: Path) -> None:
    config: Experiment = request.getfixturevalue(kind)
    config.data.augment = AugmentConfig(horizontal_flip=0.5, rotate=20)
    page = tmp_path / "page.html"
    said = command("browse", written(config), "--images", "3", "--epochs", "2", "--out", page)
    assert said.code == 0, said.error
    assert f"written to {page}" in said.out
    html = page.read_text()
    found = check(html)
    assert html.count("<article") == 3
    assert html.count('src="data:image/jpeg') == 6
    assert "data.augment.rotate" in found.text
    assert len(set(re.findall(r'src="(data:image/jpeg[^"]+)"', html))) == 6  # each epoch its own changes


def test_samples_are_those_of_training(
    tiny: Experiment, written, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.data.augment = AugmentConfig(horizontal_flip=0.5, rotate=20, mosaic=0.5)
    tiny.runner.seed = 3
    drawn: list[Sample] = []

    def note(sample: Sample, *rest: object):
        drawn.append(sample)
        return draw_sample(sample, *rest)

    monkeypatch.setattr(browsing, "draw_sample", note)
    said = command("browse", written(tiny), "--images", "10", "--epochs", "2", "--out", tmp_path / "page.html")
    assert said.code == 0, said.error
    wanted = wanted_targets(tiny)
    train, _, _ = open_splits(tiny.data, tiny.runner.seed, wanted)
    loader = TrainingLoader(
        train, tiny.data, tiny.image, seed=3, divisor=1, wanted=wanted, schedule=tiny.schedule, world_size=1
    )
    for epoch in range(2):
        shown = {sample.image_id: sample for sample in drawn[epoch::2]}
        assert len(shown) == 10
        for (batch,) in loader.steps(epoch):
            for row, image_id in enumerate(batch.image_ids):
                own, (height, width) = shown[image_id], batch.sizes.valid[row].tolist()
                image = batch.images[row, :, :height, :width].permute(1, 2, 0).numpy()
                assert np.array_equal(image, own.image)
                assert batch.targets.boxes is not None
                assert np.array_equal(batch.targets.boxes.boxes[row, : len(own.boxes)].numpy(), own.boxes)


def test_images_to_validate_on_are_not_changed(tiny: Experiment, written, command, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = command("browse", written(tiny), "--split", "val", "--epochs", "3", "--out", page)
    assert said.code == 0, said.error
    html = page.read_text()
    assert html.count('src="data:image/jpeg') == html.count("<article") == 4
    assert "nothing about them is random" in check(html).text


def test_only_images_of_a_class(tiny_labels: Experiment, written, command, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = command("browse", written(tiny_labels), "--classes", "platelet", "--epochs", "1", "--out", page)
    assert said.code == 0, said.error
    captions = re.findall(r"<figcaption>([^<]*)</figcaption>", page.read_text())
    assert captions
    assert all(caption == "epoch 1: 64 x 64 px; platelet" for caption in captions)


def test_mixed_labels_are_told_with_their_shares(tiny_labels: Experiment) -> None:
    labels = LabelMap(ids=(0, 1), names=("a", "b"))
    image, none = np.zeros((8, 12, 3), np.uint8), np.zeros(0, np.int64)
    sample = Sample(image, 1, "x.png", 0, (8, 12), np.zeros((0, 4), np.float32), none, none.astype(bool))
    for values, said in (([0.3, 0.7], "b 0.70, a 0.30"), ([1, 0], "a"), ([], "not annotated"), ([0, 0], "none")):
        sample.image_labels = np.array(values, np.float32)
        _, told = draw_sample(sample, tiny_labels.heads, {"labels": labels}, tiny_labels.image)
        assert told == f"12 x 8 px; {said}"


def test_mistakes_are_one_line(tiny_config: Path, command, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "page.html")
    assert (
        "classes has 'cat'; expected classes of the data: red_cell"
        in command("browse", tiny_config, "--classes", "cat", *out).complaint
    )
    assert "expected at most 600 on a page" in command("browse", tiny_config, "--images", "601", *out).complaint
    assert "expected 1 or more of both" in command("browse", tiny_config, "--epochs", "0", *out).complaint
    assert "no config given" in command("browse").complaint
