"""Images a second."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from tasks.benchmark.data import Albumented, Transformed
from tasks.benchmark.photographs import write_photographs
from tasks.config import DataConfig
from tasks.data.splits import open_splits


def test_all_images_are_loaded(command, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "data.json"
    said = command(
        *("benchmark", "data", "--root", tiny_data, "--workers", "0", "--runs", "1", "--warmup", "0", "--out", out)
    )
    assert said.code == 0, said.error
    (table,) = json.loads(out.read_text())["tables"]
    assert [row["name"] for row in table["rows"]][:2] == ["polyhead", "polyhead sampling"]
    assert len(table["rows"]) == 4
    for row in table["rows"]:
        assert row["images"] == table["rows"][0]["images"] > 0
        assert row["images_per_second"] == row["images"] / row["seconds"]
        assert row["milliseconds_an_image"] == 1000 * row["seconds"] / row["images"]


def test_all_load_the_same_boxes(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path, 3)
    config = DataConfig(root=folder)
    train, _, _ = open_splits(config, seed=0)
    for dataset in (Albumented(train), Transformed(train)):
        for index in range(len(train)):
            image, boxes, labels = dataset[index]
            assert image.shape == (3, 512, 512)
            assert image.dtype == torch.float32
            objects = train.objects(index)
            assert sorted(labels.tolist()) == sorted(objects.labels.tolist())
            areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) * (480 * 640) / 512**2
            np.testing.assert_allclose(sorted(areas.tolist()), sorted(objects.areas), rtol=1e-3)


def test_photographs_are_jpeg_files_in_a_coco_folder(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path, 3)
    content = json.loads((folder / "annotations" / "instances_train.json").read_text())
    files = list((folder / "train").iterdir())
    assert {image["file_name"] for image in content["images"]} == {file.name for file in files}
    for file in files:
        picture = cv2.imread(str(file))
        assert picture is not None
        assert picture.shape == (480, 640, 3)
        assert 40_000 < file.stat().st_size < 250_000  # as those of cameras and of COCO
