"""Copies are told from images that are only alike."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tasks.checking.leakage import ALIKE
from tasks.checking.looks import thumbnail
from tests.tasks.checking.shapes import draw, read

Image = npt.NDArray[np.uint8]


def copies(image: Image) -> dict[str, Image]:
    """What people do to images."""
    small = cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    return {
        "smaller": np.asarray(small, np.uint8),
        "compressed": np.asarray(jpeg, np.uint8),
        "brighter": (image * 1.1 + 8).clip(0, 255).astype(np.uint8),
    }


def test_copies_are_found_and_others_are_not() -> None:
    images = [draw(seed, 96)[0] for seed in range(60)]
    ours = np.stack([thumbnail(image) for image in images])
    for kind in copies(images[0]):
        theirs = np.stack([thumbnail(copies(image)[kind]) for image in images])
        correlation = ours @ theirs.T
        assert correlation.diagonal().min() >= ALIKE, kind
        np.fill_diagonal(correlation, 0)
        assert correlation.max() < ALIKE, kind


def test_images_without_structure_are_like_nothing() -> None:
    assert not thumbnail(np.full((64, 64, 3), 90, np.uint8)).any()


@pytest.mark.slow
def test_no_false_pair_in_real_data(reference_data: Path) -> None:
    """Of 12 million pairs of images, those that count as copies and have other pixels: two, and both truly are."""
    chests = np.load(reference_data / "pneumonia28" / "pneumonia28.npz")
    small = np.load(reference_data / "cifar10" / "cifar10_train4000.npz")["images"]
    sets: dict[str, list[Image]] = {
        "chests": [image[:, :, None] for name in ("train", "test") for image in chests[f"{name}_images"]],
        "small": list(small),
        "smears": [read(file) for file in sorted((reference_data / "bccd" / "JPEGImages").glob("*.jpg"))],
        "photographs": [read(file) for file in sorted((reference_data / "coco").glob("*2017/*.jpg"))],
        "nuclei": [read(file) for file in sorted((reference_data / "nuclei").glob("*/*.png"))],
    }
    found, pairs = {}, 0
    for name, images in sets.items():
        thumbnails = np.stack([thumbnail(image if image.ndim == 3 else image[:, :, None]) for image in images])
        alike = np.argwhere(np.triu(thumbnails @ thumbnails.T, 1) >= ALIKE).tolist()
        found[name] = [pair for pair in alike if not np.array_equal(images[pair[0]], images[pair[1]])]
        pairs += len(images) * (len(images) - 1) // 2
    assert pairs > 12_000_000
    # The same field of a smear at another focus, and a photograph moved by a pixel.
    assert found == {"chests": [], "small": [[661, 2210]], "smears": [[35, 36]], "photographs": [], "nuclei": []}
