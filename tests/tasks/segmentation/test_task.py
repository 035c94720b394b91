"""Masks required, drawn and written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import UserError
from heads.contract import IGNORED, SemanticMasks
from tasks.data.annotations import Annotations
from tasks.data.formats.coco import CocoFolder
from tasks.drawing import Picture, class_colour
from tasks.label_map import LabelMap
from tasks.prediction.from_torch import found_in
from tasks.segmentation.task import SegmentationTask

Build = Callable[..., Annotations]


def test_boxes_alone_are_refused(tiny_data: Path, split_of: Build, square: np.ndarray) -> None:
    with pytest.raises(UserError, match="none of its 10 images has a mask or an outlined object"):
        SegmentationTask.require(CocoFolder(tiny_data).read("train"))
    SegmentationTask.require(CocoFolder(tiny_data).read("train", masks=True))
    SegmentationTask.require(split_of([square], ("a",)))
    with pytest.raises(UserError, match="none of its 1 images"):
        SegmentationTask.require(replace(split_of([square], ("a",)), mask_files=None))


@pytest.mark.parametrize(
    ("ids", "values"), [((7, 255), (7, 255)), ((7, 256), (1, 2)), ((0, 1), (1, 2))], ids=["fit", "large", "zero"]
)
def test_index_mask(ids: tuple[int, ...], values: tuple[int, ...]) -> None:
    mask = np.zeros((5, 8), np.uint8)
    mask[0, :3], mask[4] = 1, 2
    labels = LabelMap(ids=ids, names=("a", "b"))
    found = found_in(SemanticMasks(torch.from_numpy(mask)[None]))
    assert found.rows(labels) == [{"area": {"a": 3, "b": 8}}]
    row, files = found.mask_files("scan_00001", labels)
    assert row == {"mask": "masks/scan_00001.png", "values": {"a": values[0], "b": values[1]}}
    assert list(files) == ["masks/scan_00001.png"]
    np.testing.assert_array_equal(files["masks/scan_00001.png"], np.array([0, *values])[mask])


def test_overlapping_masks_have_a_file_each() -> None:
    masks = np.zeros((3, 5, 8), np.uint8)
    masks[0], masks[2, 1:3] = 1, 1
    labels = LabelMap(ids=(1, 2, 9), names=("left/lung", "heart", "left lung"))
    found = found_in(SemanticMasks(torch.from_numpy(masks)))
    assert found.rows(labels) == [{"area": {"left/lung": 40, "heart": 0, "left lung": 16}}]
    row, files = found.mask_files("x", labels)
    # Two names would give the same file.
    assert row["masks"]["left/lung"] == "masks/x_1_left_lung.png"
    for name, mask in zip(labels.names, masks, strict=True):
        np.testing.assert_array_equal(files[row["masks"][name]], 255 * mask)


def grey_picture() -> Picture:
    return Picture(np.full((80, 120, 3), 100, np.uint8), 4)


def test_truth_and_prediction_look_alike(split_of: Build, square: np.ndarray) -> None:
    labels = LabelMap(ids=(3, 4), names=("a", "b"))
    truth, predicted = grey_picture(), grey_picture()
    SegmentationTask.draw_truth(truth, split_of([square], labels.names, labels.ids), 0, labels)
    SegmentationTask.draw(predicted, SemanticMasks(torch.from_numpy(square)[None]), labels, 0.5)
    np.testing.assert_array_equal(truth.pixels, predicted.pixels)
    inside, outside = truth.pixels[7 * 4 + 1, 8 * 4 + 1], truth.pixels[70, 100]
    np.testing.assert_allclose(inside, 0.6 * 100 + 0.4 * np.array(class_colour(0)), atol=1)
    np.testing.assert_array_equal(outside, 100)


def test_overlapping_classes_and_ignored_pixels_are_drawn(split_of: Build, square: np.ndarray) -> None:
    labels = LabelMap(ids=(3, 4), names=("a", "b"))
    both = np.stack([square, square])
    both[1, 15:] = IGNORED
    picture = grey_picture()
    SegmentationTask.draw_truth(picture, split_of([both], labels.names), 0, labels)
    first = 0.6 * 100 + 0.4 * np.array(class_colour(0))
    np.testing.assert_allclose(
        picture.pixels[5 * 4 + 1, 8 * 4 + 1], 0.6 * first + 0.4 * np.array(class_colour(1)), atol=1
    )
    np.testing.assert_array_equal(picture.pixels[17 * 4 + 1, 100], round(0.6 * 100 + 0.4 * 128))
