"""JPEG files decoded at a reduced scale: nearly averages of whole ones, of the right size, and where that may be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backbones.errors import UserError
from tasks.benchmark.photographs import photograph, write_photographs
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.dataset import Dataset
from tasks.data.files.image_file import Pixels, read_image, read_reduced
from tasks.data.files.reduced_decode import MISPLACED, reduction
from tasks.data.formats.coco import CocoFolder
from tasks.data.sample import SampleKey
from tasks.data.wanted import Wanted
from tasks.image_spec import ImageSpec

MEAN, MOST = 1.0, 16  # levels of 255 that a reduced image may differ by from the averages of the whole one
Size = tuple[int, int]


@pytest.mark.parametrize(
    ("size", "needed", "factor"),
    [
        ((480, 640), (240, 320), 2),
        ((480, 640), (241, 320), 1),
        ((480, 640), (240, 321), 1),
        ((480, 640), (120, 160), 4),
        ((480, 640), (60, 80), 8),
        ((480, 640), (1, 1), 8),
        ((480, 640), (960, 1280), 1),
        ((480, 640), None, 1),
        ((481, 641), (240, 320), 2),
        ((8, 633), (1, 79), 4),  # an eighth would cover 640, and be off by 0.87 of the pixels that are 79 then
        ((1, 1), (1, 1), 1),
    ],
)
def test_the_factor(size: Size, needed: Size | None, factor: int) -> None:
    assert reduction(size, needed) == factor


def test_no_factor_gives_too_little() -> None:
    random, found = np.random.default_rng(0), set()
    for _ in range(2000):
        height, width, *needed = (int(side) for side in random.integers(1, [900, 900, 300, 300]))
        factor = reduction((height, width), (needed[0], needed[1]))
        found.add(factor)
        for own, wanted in ((height, needed[0]), (width, needed[1])):
            assert factor == 1 or own // factor >= wanted
            # The far edge of what is shown lies less than half a pixel from where it should be.
            assert factor == 1 or (-(-own // factor) * factor / own - 1) * wanted <= MISPLACED
    assert found == {1, 2, 4, 8}


def block_means(image: Pixels, factor: int) -> Any:
    height, width = (side // factor for side in image.shape[:2])
    inside = image[: height * factor, : width * factor].astype(np.float64)
    return inside.reshape(height, factor, width, factor, -1).mean(axis=(1, 3))


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_nearly_the_averages_of_the_whole(tmp_path: Path, factor: int, subsampling: int, progressive: bool) -> None:
    file = tmp_path / "a.jpg"
    shown = photograph(np.random.default_rng(0))[:479, :]
    for picture, channels in ((shown, 3), (shown[:, :, 0], 1)):
        options = {"subsampling": subsampling} if channels == 3 else {}
        Image.fromarray(picture).save(file, quality=90, progressive=progressive, **options)
        spec = ImageSpec() if channels == 3 else ImageSpec(channels=1, mean=(0.5,), std=(0.2,))
        whole = read_image(file, spec)
        reduced, size = read_reduced(file, spec, lambda size: (size[0] // factor, size[1] // factor))
        assert size == (479, 640)
        assert reduced.shape == (-(-479 // factor), 640 // factor, channels)
        assert reduced.dtype == np.uint8
        difference = np.abs(reduced[: 479 // factor] - block_means(whole, factor))
        assert difference.mean() < MEAN
        assert difference.max() < MOST


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images(tmp_path: Path, orientation: int) -> None:
    file, exif = tmp_path / "a.jpg", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photograph(np.random.default_rng(1))[:200, :320]).save(file, quality=95, exif=exif)
    turned = (320, 200) if orientation >= 5 else (200, 320)
    asked: list[Size] = []

    def half(size: Size) -> Size:
        asked.append(size)
        return size[0] // 2, size[1] // 2

    reduced, size = read_reduced(file, ImageSpec(), half)
    assert asked == [size] == [turned], "upright"
    assert np.abs(reduced - block_means(read_image(file, ImageSpec()), 2)).mean() < MEAN
    # Annotated as stored, it is not turned.
    kept, size = read_reduced(file, ImageSpec(), half, annotated_size=(200, 320))
    assert size == (200, 320)
    assert kept.shape[:2] == ((100, 160) if orientation >= 5 else reduced.shape[:2])


def test_other_files_stay_whole(tmp_path: Path) -> None:
    picture = Image.fromarray(photograph(np.random.default_rng(0))[:64, :96])
    for name, image in (("a.png", picture), ("a.webp", picture), ("cmyk.jpg", picture.convert("CMYK"))):
        image.save(tmp_path / name)
        reduced, size = read_reduced(tmp_path / name, ImageSpec(), lambda size: (8, 8))
        assert reduced.shape[:2] == size == (64, 96)
        np.testing.assert_array_equal(reduced, read_image(tmp_path / name, ImageSpec()))
    picture.save(tmp_path / "a.jpg")
    percentiles = ImageSpec(bit_depth=32, percentiles=(1, 99))
    assert read_reduced(tmp_path / "a.jpg", percentiles, lambda size: (8, 8))[0].shape == (64, 96, 3)
    assert read_reduced(tmp_path / "a.jpg", ImageSpec(bit_depth=16), lambda size: (8, 8))[0].dtype == np.uint16


def test_mistakes_are_those_of_whole_images(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    Image.fromarray(photograph(np.random.default_rng(0))[:64, :96]).save(file)
    with pytest.raises(UserError, match=r"the image is 96 x 64 pixels .* annotated as 48 x 32"):
        read_reduced(file, ImageSpec(), lambda size: (8, 8), annotated_size=(32, 48))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(UserError, match="cut off or damaged"):
        read_reduced(file, ImageSpec(), lambda size: (8, 8))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Annotations:
    """Of 480 x 640 pixels, with boxes; an object without an outline fills its box."""
    root = write_photographs(tmp_path_factory.mktemp("data"), 3)
    return CocoFolder(root).read("train", masks=True)


WANTED = Wanted(outlines=True, masks="one")


def dataset(split: Annotations, reduced: bool | None, training: bool = True, **fields: Any) -> Dataset:
    config = DataConfig.model_validate({"size": (160, 224), "reduced_decode": reduced, **fields})
    return Dataset(split, config, ImageSpec(), training=training, wanted=WANTED)


REDUCED: list[dict[str, Any]] = [
    {},
    {"size": None, "short_side": (120, 200), "antialias": True, "augment": {"scale_jitter": (0.3, 1.2)}},
    {"augment": {"crop": (100, 100), "vertical_flip": 0.5, "quarter_turns": True}},
    {"augment": {"rotate": 20, "mosaic": 0.5}},
    {"augment": {"random_resized_crop": (0.3, 1.0)}},
    {"augment": {"random_resized_crop": (0.8, 1.0), "rotate": 20}, "size": (100, 60)},
]
WHOLE: list[dict[str, Any]] = [
    {"augment": {"random_resized_crop": (0.08, 0.2)}},
    {"antialias": False, "augment": {"rotate": 20}},
    {"size": (300, 320)},
]


@pytest.mark.parametrize("fields", REDUCED + WHOLE)
def test_samples_stay_what_they_are(photographs: Annotations, fields: dict[str, Any]) -> None:
    """Boxes, outlines and masks are the same to the last bit, the images nearly."""
    whole, reduced = (dataset(photographs, flag, **fields) for flag in (False, True))
    changed = 0
    for index in range(3):
        for epoch in range(3):
            one, other = whole[SampleKey(index, epoch)], reduced[SampleKey(index, epoch)]
            for name in ("boxes", "labels", "outlines", "masks", "original_size"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert other.original_size == (480, 640)
            assert one.image.shape == other.image.shape
            assert np.abs(one.image.astype(int) - other.image).mean() < 4
            changed += not np.array_equal(one.image, other.image)
    assert (changed > 0) is (fields in REDUCED)


def test_where_it_is_on(photographs: Annotations) -> None:
    """Where pixels are averaged anyway, and in training alone."""
    sampled: dict[str, Any] = {"size": None, "short_side": (160,), "long_side": 224}
    key = SampleKey(0, 0)
    for fields, used in (({}, True), ({"antialias": False}, False), (sampled, False)):
        default, whole = (dataset(photographs, flag, **fields)[key].image for flag in (None, False))
        assert np.array_equal(default, whole) is not used
    evaluated = [dataset(photographs, flag, training=False)[key].image for flag in (True, False)]
    np.testing.assert_array_equal(*evaluated)


def test_real_photographs(reference_data: Path) -> None:
    files = sorted((reference_data / "coco").rglob("*.jpg"))[:20]
    assert len(files) == 20
    means = []
    for file in files:
        whole = read_image(file, ImageSpec())
        reduced, size = read_reduced(file, ImageSpec(), lambda size: (size[0] // 2, size[1] // 2))
        assert reduced.shape[0] == -(-size[0] // 2)
        means.append(np.abs(block_means(whole, 2) - reduced[: size[0] // 2, : size[1] // 2]).mean())
    assert max(means) < MEAN
