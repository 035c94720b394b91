"""A trained run in three lines of Python, and what its predictions can be turned into."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from backbones import UserError
from tasks import load_model
from tasks.prediction.found_boxes import FoundBoxes
from tasks.prediction.found_labels import FoundLabels
from tasks.prediction.found_masks import FoundMasks


@pytest.fixture
def image(tiny_data: Path) -> Path:
    return sorted((tiny_data / "val").glob("*.png"))[0]


def test_boxes(command, trained: Path, image: Path, tmp_path: Path) -> None:
    """The same from a file and from its pixels, and what the tool writes."""
    model = load_model(trained, device="cpu")
    predictions = model(image)
    rows = predictions.to_coco(image_id=7)
    assert rows
    assert rows[0].keys() == {"image_id", "category_id", "bbox", "score"}
    assert {row["image_id"] for row in rows} == {7}
    pixels = cv2.imread(str(image))[:, :, ::-1]
    assert model(pixels).to_coco(image_id=7) == rows
    first, second = model.batch([image, pixels])
    assert len(first.to_coco()) == len(second.to_coco()) == len(rows)
    drawn = predictions.draw(threshold=0.0)
    assert drawn.shape == (640, 640, 3)
    assert (drawn != predictions.draw(threshold=1.1)).any()
    assert command("predict", trained, image, "--out", tmp_path, "--formats", "json").code == 0
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert [{**row, "image_id": 7} for row in written] == [{**row, "file_name": str(image)} for row in rows]
    found = predictions["boxes"]
    assert isinstance(found, FoundBoxes)
    assert (np.diff(found.scores) <= 0).all()


def test_labels_and_masks(trained_labels: Path, trained_masks: Path, image: Path) -> None:
    labels = load_model(trained_labels, device="cpu")(image)
    found = labels["labels"]
    assert isinstance(found, FoundLabels)
    assert found.scores.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match=r"no head of this model finds any: use rows\(\)"):
        labels.to_coco()
    masks = load_model(trained_masks, device="cpu")(image)["masks"]
    assert isinstance(masks, FoundMasks)
    assert masks.planes.shape == (1, 64, 64)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros(5, np.uint8), r"an array of shape \(5,\) is no image"),
        (np.zeros((8, 8, 5), np.uint8), "the image has 5 channels, image.channels is 3"),
        (np.zeros((8, 8, 3), np.float32), "the pixels are float32; expected 8 bit"),
    ],
)
def test_arrays_that_do_not_fit(pixels: np.ndarray, message: str, trained: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_model(trained, device="cpu")(pixels)
