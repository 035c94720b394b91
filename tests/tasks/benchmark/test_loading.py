"""Images a second."""

import json
from pathlib import Path

import cv2

from tasks.benchmark.loading import write_photographs


def test_all_images_are_loaded(command, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "data.json"
    said = command(
        *("benchmark", "data", "--root", tiny_data, "--only", "polyhead", "--workers", "0", "--runs", "1"),
        *("--warmup", "0", "--out", out),
    )
    assert said.code == 0, said.error
    (table,) = json.loads(out.read_text())["tables"]
    (row,) = table["rows"]
    assert row["images"] > 0
    assert row["images_per_second"] == row["images"] / row["seconds"]


def test_photographs_are_jpeg_files_in_a_coco_folder(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path, images=3, side=64)
    content = json.loads((folder / "annotations" / "instances_train.json").read_text())
    names = {image["file_name"] for image in content["images"]}
    assert names == {file.name for file in (folder / "train").iterdir()}
    assert all(name.endswith(".jpg") for name in names)
    pictures = [cv2.imread(str(folder / "train" / name)) for name in names]
    assert [picture.shape for picture in pictures if picture is not None] == [(64, 64, 3)] * 3
