"""Slices of NIfTI volumes written with nibabel, in every orientation and type."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from backbones.errors import UserError
from tasks.data.files import nifti_file
from tasks.data.files.image_file import frame_count, read_image, read_spacing
from tasks.image_spec import ImageSpec

REAL = ImageSpec(channels=1, bit_depth=32, high=1, mean=(0,), std=(1,))
GREY16 = ImageSpec(channels=1, bit_depth=16, mean=(0,), std=(1,))
SHAPE, STEPS = (4, 5, 6), (0.5, 0.75, 3.0)
AXES: tuple[Any, ...] = ("axial", "coronal", "sagittal")
ORIENTATIONS = [
    [[axis, sign] for axis, sign in zip(order, signs, strict=True)]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


@pytest.fixture
def volume() -> npt.NDArray[np.int16]:
    """(x, y, z) in canonical order: to the right, to the front, upwards."""
    return np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)


Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(values: npt.NDArray[Any], orientation: Any = None, name: str = "v.nii.gz", **header: Any) -> Path:
        image = nibabel.Nifti1Image(values, np.diag([*STEPS, 1.0]))
        if orientation is not None:
            image = image.as_reoriented(np.array(orientation))
        for key, value in header.items():
            image.header[key] = value
        nibabel.save(image, tmp_path / name)
        return tmp_path / name

    return write


def expected_slice(volume: npt.NDArray[Any], index: int, axis: str) -> npt.NDArray[Any]:
    """Written out a second way: pixel by pixel as the table of the module says."""
    x, y, z = volume.shape
    if axis == "axial":
        return np.array([[volume[x - 1 - c, y - 1 - r, index] for c in range(x)] for r in range(y)])
    if axis == "coronal":
        return np.array([[volume[x - 1 - c, index, z - 1 - r] for c in range(x)] for r in range(z)])
    return np.array([[volume[index, y - 1 - c, z - 1 - r] for c in range(y)] for r in range(z)])


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_any_orientation_gives_the_canonical_slices(
    save: Save, volume: npt.NDArray[np.int16], orientation: Any, name: str
) -> None:
    file = save(volume, orientation, name)
    np.testing.assert_array_equal(nibabel.as_closest_canonical(nibabel.load(file)).get_fdata(), volume)
    counts = {axis: frame_count(file, axis) for axis in AXES}
    assert counts == {"axial": 6, "coronal": 5, "sagittal": 4}
    for axis in AXES:
        for index in (0, counts[axis] - 2):
            image = read_image(file, REAL, frame=index, axis=axis)
            assert image.dtype == np.float32
            assert image.flags.c_contiguous
            np.testing.assert_array_equal(image[:, :, 0], expected_slice(volume, index, axis))
    steps = {axis: read_spacing(file, 0, axis) for axis in AXES}
    assert steps == {"axial": (0.75, 0.5), "coronal": (3.0, 0.5), "sagittal": (3.0, 0.75)}
    np.testing.assert_array_equal(nifti_file.read_volume(file), volume)


def test_an_axial_slice_lies_as_in_dicom(save: Save) -> None:
    """Rows to the back, columns to the left of the patient, as the usual axial ImageOrientationPatient 1 0 0 0 1 0."""
    volume = np.zeros((10, 12, 2), np.uint8)
    volume[9, 11, 0] = 200  # The patient's right, front.
    image = read_image(save(volume), ImageSpec(channels=1))
    assert image.shape == (12, 10, 1)
    assert image[0, 0, 0] == 200


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_slope_and_intercept_equal_nibabel(save: Save, volume: npt.NDArray[np.int16], name: str) -> None:
    file = save(volume, name=name)
    image = nibabel.load(file)
    image.header.set_slope_inter(0.25, -3)
    nibabel.save(nibabel.Nifti1Image(volume * 0.25 - 3, image.affine, image.header), file)
    loaded = nibabel.load(file)
    assert (loaded.dataobj.slope, loaded.dataobj.inter) != (1, 0)
    for index in range(6):
        expected = expected_slice(loaded.get_fdata(), index, "axial")
        np.testing.assert_allclose(read_image(file, REAL, frame=index)[:, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_stored_types(save: Save, kind: Any) -> None:
    volume = np.arange(120).reshape(SHAPE).astype(kind)
    image = read_image(save(volume), REAL, frame=1)
    np.testing.assert_array_equal(image[:, :, 0], expected_slice(volume, 1, "axial").astype(np.float32))
    assert nifti_file.read_slice(save(volume), 1, "axial").dtype == kind


def test_depths(save: Save, volume: npt.NDArray[np.int16]) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    image = read_image(save(levels), GREY16)
    assert image.dtype == np.uint16
    assert len(np.unique(image)) == 65536
    with pytest.raises(UserError, match=r"uint16, from 0 to 65535 .* set it to 16"):
        read_image(save(levels), ImageSpec(channels=1))
    with pytest.raises(UserError, match=r"int16, from .* set it to 32"):
        read_image(save(volume), GREY16)


def test_what_is_not_finite(save: Save) -> None:
    volume = np.array([[[3.0]], [[np.nan]], [[np.inf]], [[-np.inf]], [[-5.0]]], np.float32)
    image = read_image(save(volume), REAL)
    assert image.ravel().tolist() == [-5, -5, 3, -5, 3]  # From the patient's right to the left.
    image = read_image(save(volume * np.nan), REAL)
    assert not image.any()


def test_dimensions(save: Save, volume: npt.NDArray[np.int16]) -> None:
    file = save(volume[..., None])
    np.testing.assert_array_equal(read_image(file, REAL)[:, :, 0], expected_slice(volume, 0, "axial"))
    flat = save(volume[:, :, 0])
    assert frame_count(flat, "axial") == 1
    np.testing.assert_array_equal(read_image(flat, REAL)[:, :, 0], expected_slice(volume, 0, "axial"))
    series = save(np.stack([volume, volume], 3), name="series.nii.gz")
    for call in (lambda: read_image(series, REAL), lambda: frame_count(series, "axial")):
        with pytest.raises(UserError, match=r"holds 4 x 5 x 6 x 2 values; expected one volume"):
            call()
    with pytest.raises(UserError, match="no axial slice 6; expected 0 to 5"):
        read_image(save(volume), REAL, frame=6)


def test_units(save: Save, volume: npt.NDArray[np.int16]) -> None:
    file = save(volume, name="v.nii", xyzt_units=3)  # Microns.
    assert read_spacing(file, 0, "axial") == pytest.approx((0.00075, 0.0005))


def test_colour_voxels_are_refused(save: Save) -> None:
    volume = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    with pytest.raises(UserError, match="expected one real number"):
        read_image(save(volume), REAL)


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_cut_off(save: Save, name: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 16)).astype(np.uint8)
    file = save(noise, name=name)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError) as error:
        read_image(file, REAL)
    assert str(file) in str(error.value)
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_not_nifti(tmp_path: Path) -> None:
    for name, content in (("a.nii", b"hello" * 100), ("a.nii.gz", b"hello"), ("a.nii.gz", b"\x1f\x8b\x08" + b"\0" * 9)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="not a NIfTI file that can be read"):
            frame_count(tmp_path / name, "axial")
    for call in (frame_count, lambda path, axis: read_image(path, REAL, axis=axis)):
        with pytest.raises(UserError, match=r"(no|No) such file"):
            call(tmp_path / "missing.nii.gz", "axial")


class TestCache:
    @pytest.fixture(autouse=True)
    def empty(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        nifti_file._decoded.clear()
        opened: list[Path] = []
        load = nifti_file._load
        monkeypatch.setattr(nifti_file, "_load", lambda path: opened.append(path) or load(path))
        return opened

    def test_a_volume_is_decoded_once(self, save: Save, volume: npt.NDArray[np.int16], empty: list[Path]) -> None:
        file = save(volume)
        for axis in AXES:
            for index in range(frame_count(file, axis)):
                read_image(file, REAL, frame=index, axis=axis)
        assert empty == [file]

    def test_a_file_that_changed_is_read_again(self, save: Save, volume: npt.NDArray[np.int16]) -> None:
        read_image(save(volume), REAL)
        changed = save(np.concatenate([volume, volume + 1], 0))
        np.testing.assert_array_equal(
            read_image(changed, REAL)[:, :, 0], expected_slice(nibabel.load(changed).get_fdata(), 0, "axial")
        )

    def test_the_one_unused_for_longest_goes(
        self, save: Save, volume: npt.NDArray[np.int16], empty: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(nifti_file, "CACHE_BYTES", 2 * volume.nbytes)
        one, two, three = (save(volume, name=f"{number}.nii.gz") for number in range(3))
        for file in (one, two, one, three, one, two):
            read_image(file, REAL)
        assert empty == [one, two, three, two]
        monkeypatch.setattr(nifti_file, "CACHE_BYTES", 1)
        read_image(three, REAL)
        assert len(nifti_file._decoded) == 1


def test_8_bit_values_are_not_scaled_to_16(save: Save, volume: npt.NDArray[np.int16]) -> None:
    stored = (volume % 256).astype(np.uint8)
    image = read_image(save(stored), GREY16, frame=2)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[:, :, 0], expected_slice(stored, 2, "axial"))
