"""Every kind of image file becomes the array that was asked for, upright, or one clear line."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from backbones.errors import UserError
from tasks.data.files.image_file import frame_count, is_image, read_image
from tasks.data.files.raster_file import turn
from tasks.image_spec import ImageSpec

RGB8, GREY8 = ImageSpec(), ImageSpec(channels=1)
RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
RGB16, GREY16 = ImageSpec(bit_depth=16), ImageSpec(channels=1, bit_depth=16)


@pytest.fixture(scope="module")
def picture() -> npt.NDArray[np.uint8]:
    """(24, 40, 3) RGB, smooth enough for JPEG and without any symmetry."""
    y, x = np.mgrid[:24, :40]
    return np.stack([5 * x, 9 * y, 120 + 2 * x - 3 * y], 2).clip(0, 255).astype(np.uint8)


def save(file: Path, image: npt.NDArray[Any] | Image.Image, **options: Any) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, **options)
    return file


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".webp"])
def test_lossless_rgb(tmp_path: Path, picture: npt.NDArray[np.uint8], suffix: str) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    image = read_image(save(tmp_path / f"a{suffix}", picture, **options), RGB8)
    np.testing.assert_array_equal(image, picture)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


def test_jpeg_equals_pil(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    file = save(tmp_path / "a.jpg", picture, quality=95)
    theirs = np.asarray(Image.open(file)).astype(int)
    assert np.abs(read_image(file, RGB8).astype(int) - theirs).max() <= 2


def test_grey_is_repeated_and_colour_weighted(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    grey = picture[:, :, 1]
    for suffix in ("png", "jpg"):
        file = save(tmp_path / f"g.{suffix}", grey)
        image = read_image(file, RGB8)
        assert image.shape == (24, 40, 3)
        assert (image == image[:, :, :1]).all()
        np.testing.assert_array_equal(read_image(file, GREY8), image[:, :, :1])
    np.testing.assert_array_equal(read_image(tmp_path / "g.png", GREY8)[:, :, 0], grey)
    file = save(tmp_path / "rgb.png", picture)
    theirs = np.asarray(Image.open(file).convert("L")).astype(int)
    assert np.abs(read_image(file, GREY8)[:, :, 0].astype(int) - theirs).max() <= 1


def test_alpha_is_dropped(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    alpha = np.full((24, 40, 1), 7, np.uint8)
    file = save(tmp_path / "rgba.png", np.concatenate([picture, alpha], 2))
    np.testing.assert_array_equal(read_image(file, RGB8), picture)
    np.testing.assert_array_equal(read_image(file, ImageSpec(channels=4))[:, :, 3:], alpha)
    grey = Image.merge("LA", [Image.fromarray(picture[:, :, 0]), Image.fromarray(alpha[:, :, 0])])
    file = save(tmp_path / "la.png", grey)
    np.testing.assert_array_equal(read_image(file, GREY8)[:, :, 0], picture[:, :, 0])


def test_cmyk_equals_pil(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    file = save(tmp_path / "cmyk.jpg", Image.fromarray(picture).convert("CMYK"), quality=98)
    image = read_image(file, RGB8)
    np.testing.assert_array_equal(image, np.asarray(Image.open(file).convert("RGB")))
    assert np.abs(image.astype(int) - picture).mean() < 4  # the colours, not their negatives


@pytest.mark.parametrize("transparency", [None, 3, b"\x00" * 8])
def test_palette(tmp_path: Path, picture: npt.NDArray[np.uint8], transparency: Any) -> None:
    palette = Image.fromarray(picture).quantize(16)
    options = {} if transparency is None else {"transparency": transparency}
    image = read_image(save(tmp_path / "p.png", palette, **options), RGB8)
    np.testing.assert_array_equal(image, np.asarray(palette.convert("RGB")))


def test_black_and_white(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    bits = Image.fromarray(picture).convert("1")
    image = read_image(save(tmp_path / "b.png", bits), GREY8)
    np.testing.assert_array_equal(image[:, :, 0], np.asarray(bits).astype(np.uint8) * 255)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_keep_all_levels(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"ramp{suffix}"
    cv2.imwrite(str(file), RAMP)
    image = read_image(file, GREY16)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[:, :, 0], RAMP)
    np.testing.assert_array_equal(read_image(file, RGB16), np.repeat(RAMP[:, :, None], 3, 2))
    eight = read_image(file, GREY8)[:, :, 0]
    assert eight.dtype == np.uint8
    np.testing.assert_array_equal(eight, np.round(RAMP / 257).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_colour(tmp_path: Path, suffix: str) -> None:
    colour = np.stack([RAMP, RAMP.T, RAMP[::-1]], 2)
    file = tmp_path / f"c{suffix}"
    cv2.imwrite(str(file), colour[:, :, ::-1])
    np.testing.assert_array_equal(read_image(file, RGB16), colour)


def test_eight_bits_fill_sixteen(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = read_image(save(tmp_path / "g.png", grey), GREY16)
    np.testing.assert_array_equal(image[:, :, 0], grey.astype(np.uint16) * 257)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_exif_orientation(tmp_path: Path, picture: npt.NDArray[np.uint8], orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(tmp_path / f"a{suffix}", picture, exif=exif, **({"quality": 95} if suffix == ".jpg" else {}))
    stored = np.asarray(Image.open(file)).astype(int) if suffix == ".jpg" else picture.astype(int)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(file))).astype(int)

    def close(image: npt.NDArray[Any], expected: npt.NDArray[Any]) -> bool:
        return image.shape == expected.shape and np.abs(image.astype(int) - expected).max() <= 2

    turned_size = (40, 24) if orientation >= 5 else (24, 40)
    assert close(read_image(file, RGB8), upright)
    assert close(read_image(file, RGB8, turned_size), upright)
    assert close(read_image(file, RGB8, turned_size, "apply"), upright)
    assert close(read_image(file, RGB8, (24, 40), "ignore"), stored)
    if orientation >= 5:  # annotated by someone who saw the stored pixels
        assert close(read_image(file, RGB8, (24, 40)), stored)
        with pytest.raises(UserError, match="annotated as"):
            read_image(file, RGB8, (24, 40), "apply")
    else:
        assert close(read_image(file, RGB8, (24, 40)), upright)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_sixteen_bits(tmp_path: Path, orientation: int) -> None:
    deep = RAMP[:24, :40]
    exif = Image.Exif()
    exif[0x0112] = orientation
    images = [read_image(save(tmp_path / f"a{suffix}", deep, exif=exif), GREY16) for suffix in (".tif", ".png")]
    np.testing.assert_array_equal(*images)
    np.testing.assert_array_equal(images[0], turn(deep[:, :, None], orientation))


def test_square_images_are_turned(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    square = picture[:, :24]
    image = read_image(save(tmp_path / "a.png", square, exif=exif), RGB8, (24, 24))
    np.testing.assert_array_equal(image, np.rot90(square, -1))


def test_turn_of_grey(picture: npt.NDArray[np.uint8]) -> None:
    assert turn(picture[:, :, :1], 6).shape == (40, 24, 1)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 0.99])
def test_files_that_are_cut_off(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    file = save(tmp_path / f"cut{suffix}", noise)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError) as error:
        read_image(file, RGB8)
    assert str(file) in str(error.value)
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_cut_off_behind_a_thumbnail(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    thumbnail = io.BytesIO()
    Image.fromarray(picture).save(thumbnail, "jpeg")
    file = save(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    whole = file.read_bytes()
    segment = b"\xff\xe5" + (len(thumbnail.getvalue()) + 2).to_bytes(2, "big") + thumbnail.getvalue()
    with_thumbnail = whole[:2] + segment + whole[2:]
    file.write_bytes(with_thumbnail)
    assert read_image(file, RGB8).shape == (200, 200, 3)
    file.write_bytes(with_thumbnail[: len(with_thumbnail) * 2 // 3])
    with pytest.raises(UserError, match="cut off or damaged"):
        read_image(file, RGB8)


def test_something_behind_the_image_is_fine(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    file = save(tmp_path / "a.jpg", picture)
    file.write_bytes(file.read_bytes() + b"trailer \xff\xda of a phone")
    assert read_image(file, RGB8).shape == (24, 40, 3)


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, b"\xff\xd8\xff\xe0" + b"\x00" * 9])
def test_files_that_are_no_images(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    with pytest.raises(UserError, match="not an image that can be read"):
        read_image(file, RGB8)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_image(tmp_path / "a.jpg", RGB8)


def test_another_size_than_annotated(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(UserError, match=r"is 40 x 24 pixels \(width x height\), annotated as 41 x 24"):
        read_image(save(tmp_path / "a.png", picture), RGB8, (24, 41))


def test_other_channels_and_depths(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(UserError, match=r"has 3 channels, image\.channels is 5"):
        read_image(save(tmp_path / "a.png", picture), ImageSpec(channels=5))
    file = tmp_path / "f.tif"
    cv2.imwrite(str(file), np.zeros((4, 4), np.float32))
    with pytest.raises(UserError, match="pixels are float32; expected 8 bit without sign"):
        read_image(file, GREY8)


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for kind, spec in ((np.uint8, GREY8), (np.uint16, GREY16), (np.uint8, RGB8), (np.uint16, RGB16)):
        shape = (3, 9, 14) if spec.channels == 1 else (3, 9, 14, 3)
        pages = random.integers(0, np.iinfo(kind).max + 1, shape).astype(kind)
        file = tmp_path / "pages.tif"
        assert cv2.imwritemulti(str(file), [np.ascontiguousarray(page[..., ::-1]) for page in pages])
        assert frame_count(file, "axial") == 3
        for number, page in enumerate(pages):
            # cv2 writes colour from BGR, and grey as it is.
            expected = page if spec.channels == 3 else page[:, ::-1, None]
            np.testing.assert_array_equal(read_image(file, spec, frame=number), expected)
        with pytest.raises(UserError, match="no page 3; expected 0 to 2"):
            read_image(file, spec, frame=3)
    assert frame_count(tmp_path / "not_opened.png", "axial") == 1


def test_real_numbers(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    real = np.random.default_rng(0).normal(0, 1000, (9, 14)).astype(np.float32)
    file = tmp_path / "real.tif"
    cv2.imwrite(str(file), real)
    spec = ImageSpec(channels=1, bit_depth=32, high=1)
    image = read_image(file, spec)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[:, :, 0], real)
    # Files of whole numbers give the numbers that they store.
    image = read_image(save(tmp_path / "a.png", picture), ImageSpec(bit_depth=32, high=255))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, picture)
    cv2.imwrite(str(tmp_path / "ramp.png"), RAMP)
    np.testing.assert_array_equal(read_image(tmp_path / "ramp.png", spec)[:, :, 0], RAMP.astype(np.float32))


def test_windows_read_one_grey_channel(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    file = save(tmp_path / "a.png", picture)
    image = read_image(file, ImageSpec(windows=((50, 10), (60, 10), (70, 10))))
    np.testing.assert_array_equal(image, read_image(file, GREY8))


def test_percentiles(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    spec = ImageSpec(percentiles=(5, 90))
    image = read_image(save(tmp_path / "a.png", picture), spec)
    assert image.dtype == np.float32
    ordered = np.sort(picture.reshape(-1).astype(np.float64))
    at = (len(ordered) - 1) * np.array([0.05, 0.9])
    low, high = np.interp(at, np.arange(len(ordered)), ordered)
    np.testing.assert_allclose(image, ((picture - low) / (high - low)).clip(0, 1), atol=1e-6)
    flat = save(tmp_path / "flat.png", np.full((9, 9, 3), 77, np.uint8))
    assert not read_image(flat, spec).any()


def test_endings() -> None:
    names = ["a.JPG", "a.nii.gz", "a.NII", "a.dcm", "a.tiff"]
    assert all(is_image(Path(name)) for name in names)
    assert not any(is_image(Path(name)) for name in ("a.gz", "a.txt", "jpg", "a.json"))


def test_a_small_file_that_claims_to_be_huge(tmp_path: Path) -> None:
    file = save(tmp_path / "bomb.png", Image.new("1", (20_000, 9_000)))
    assert file.stat().st_size < 100_000
    with pytest.raises(UserError, match="cut the image into tiles"):
        read_image(file, RGB8)
