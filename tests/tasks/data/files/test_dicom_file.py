"""DICOM files, written here with pydicom and shipped with it, give the values that they mean."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pydicom.data
import pytest
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLosslessSV1, RLELossless, generate_uid

from backbones.errors import UserError
from tasks.data.files.image_file import frame_count, read_image, read_spacing
from tasks.image_spec import ImageSpec
from tasks.normalisation import Normalisation

REAL = ImageSpec(channels=1, bit_depth=32, windows=((40, 400),), mean=(0.25,), std=(0.5,))
GREY8 = ImageSpec(channels=1, mean=(0,), std=(1,))
GREY16 = ImageSpec(channels=1, bit_depth=16, mean=(0,), std=(1,))
SHIPPED = Path(pydicom.data.__file__).parent / "test_files"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(values, bits, **attributes)`: a file of grey or RGB frames."""

    def save(values: npt.NDArray[Any], bits: int = 12, **attributes: Any) -> Path:
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        colour = values.ndim > 2 and values.shape[-1] == 3
        frames = values.ndim - 2 - colour
        data.Rows, data.Columns = values.shape[frames : frames + 2]
        if frames:
            data.NumberOfFrames = len(values)
        data.SamplesPerPixel = 3 if colour else 1
        if colour:
            data.PlanarConfiguration = 0
        data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = values.dtype.itemsize * 8, bits, bits - 1
        data.PixelRepresentation = int(values.dtype.kind == "i")
        data.PixelData = values.tobytes()
        for name, value in attributes.items():
            setattr(data, name, value)
        file = tmp_path / "a.dcm"
        data.save_as(file, enforce_file_format=True)
        return file

    return save


@pytest.fixture
def stored() -> npt.NDArray[np.uint16]:
    """(24, 32) of 12 bits, both ends among them."""
    values = np.random.default_rng(0).integers(0, 4096, (24, 32), dtype=np.uint16)
    values[0, :2] = 0, 4095
    return values


def test_known_window_on_known_values(write: Write) -> None:
    # Hounsfield units -1024, -160, 40, 240, 3071 under the window 40 +- 200.
    file = write(np.array([[0, 864], [1064, 1264], [4095, 1064]], np.uint16), RescaleSlope=1, RescaleIntercept=-1024)
    image = read_image(file, REAL)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[:, :, 0], [[-1024, -160], [40, 240], [3071, 40]])
    shown = Normalisation(REAL)(torch.from_numpy(image).permute(2, 0, 1)[None])[0, 0]
    expected = (torch.tensor([[0, 0], [0.5, 1], [1, 0.5]]) - 0.25) / 0.5
    torch.testing.assert_close(shown, expected)


def test_slope_and_intercept_equal_pydicom(write: Write, stored: npt.NDArray[np.uint16]) -> None:
    file = write(stored, RescaleSlope="0.125", RescaleIntercept="-7.5")
    data = pydicom.dcmread(file)
    np.testing.assert_allclose(read_image(file, REAL)[:, :, 0], pydicom.pixels.apply_rescale(data.pixel_array, data))


def test_modality_table_equals_pydicom(write: Write) -> None:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [16, 2, 16], "US", [7 * i * i for i in range(16)]
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
    values = np.arange(20, dtype=np.uint16).reshape(4, 5)
    file = write(values, ModalityLUTSequence=Sequence([table]))
    data = pydicom.dcmread(file)
    theirs = pydicom.pixels.apply_modality_lut(values, data)
    np.testing.assert_array_equal(read_image(file, REAL)[:, :, 0], theirs)
    file = write(values, ModalityLUTSequence=Sequence([table]), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_image(file, REAL)[:, :, 0], 65535 - theirs.astype(np.float32))


def test_stored_values_without_rescaling(write: Write, stored: npt.NDArray[np.uint16]) -> None:
    image = read_image(write(stored, RescaleSlope=1, RescaleIntercept=0), GREY16)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[:, :, 0], stored)
    eight = read_image(write((stored // 16).astype(np.uint8), bits=8), GREY8)
    assert eight.dtype == np.uint8
    np.testing.assert_array_equal(eight[:, :, 0], stored // 16)
    np.testing.assert_array_equal(read_image(write(stored), REAL)[:, :, 0], stored.astype(np.float32))


def test_signed_values(write: Write) -> None:
    values = np.array([[-2048, -1], [0, 2047]], np.int16)
    np.testing.assert_array_equal(read_image(write(values), REAL)[:, :, 0], values)
    turned = read_image(write(values, PhotometricInterpretation="MONOCHROME1"), REAL)
    np.testing.assert_array_equal(turned[:, :, 0], -1 - values)


def test_monochrome1_shows_the_same_picture(write: Write, stored: npt.NDArray[np.uint16]) -> None:
    usual = read_image(write(stored), GREY16)
    turned = read_image(write(4095 - stored, PhotometricInterpretation="MONOCHROME1"), GREY16)
    np.testing.assert_array_equal(turned, usual)
    # As pydicom presents it.
    attributes = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
    data = pydicom.dcmread(write(4095 - stored, **attributes))
    theirs = pydicom.pixels.apply_presentation_lut(data.pixel_array, data)
    assert np.corrcoef(theirs.ravel(), turned.ravel())[0, 1] > 0.999999
    real = {"RescaleSlope": 2, "RescaleIntercept": -1024}
    usual = read_image(write(stored, **real), REAL)
    turned = read_image(write(4095 - stored, PhotometricInterpretation="MONOCHROME1", **real), REAL)
    np.testing.assert_array_equal(turned, usual)


@pytest.mark.parametrize("rle", [False, True])
def test_frames(write: Write, rle: bool) -> None:
    frames = np.random.default_rng(0).integers(0, 4096, (3, 8, 10), dtype=np.uint16)
    file = write(frames)
    if rle:
        data = pydicom.dcmread(file)
        data.compress(RLELossless)
        data.save_as(file)
    assert frame_count(file, "axial") == 3
    for number, expected in enumerate(frames):
        np.testing.assert_array_equal(read_image(file, GREY16, frame=number)[:, :, 0], expected)
    with pytest.raises(UserError, match="no frame 3; expected 0 to 2"):
        read_image(file, GREY16, frame=3)


def test_every_frame_has_its_own_rescaling_and_spacing(write: Write) -> None:
    def group(slope: float, step: float) -> Dataset:
        transformation, measures, both = Dataset(), Dataset(), Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = slope, 1
        measures.PixelSpacing = [step, 2 * step]
        both.PixelValueTransformationSequence = Sequence([transformation])
        both.PixelMeasuresSequence = Sequence([measures])
        return both

    own = Sequence([group(2, 0.5), group(3, 0.25)])
    file = write(np.full((2, 4, 4), 10, np.uint16), PerFrameFunctionalGroupsSequence=own)
    assert [read_image(file, REAL, frame=number)[0, 0, 0] for number in (0, 1)] == [21, 31]
    assert [read_spacing(file, number, "axial") for number in (0, 1)] == [(0.5, 1.0), (0.25, 0.5)]
    file = write(np.full((2, 4, 4), 10, np.uint16), SharedFunctionalGroupsSequence=own[1:])
    assert read_image(file, REAL, frame=1)[0, 0, 0] == 31


def test_spacing(write: Write, stored: npt.NDArray[np.uint16]) -> None:
    assert read_spacing(write(stored), 0, "axial") is None
    assert read_spacing(write(stored, ImagerPixelSpacing=[0.2, 0.1]), 0, "axial") == (0.2, 0.1)
    both = {"PixelSpacing": [0.7, 0.5], "ImagerPixelSpacing": [0.2, 0.1]}
    assert read_spacing(write(stored, **both), 0, "axial") == (0.7, 0.5)
    assert read_spacing(write(stored, PixelSpacing=[0, 0]), 0, "axial") is None


def test_colour(write: Write) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_image(write(colour, bits=8), ImageSpec()), colour)
    ybr = pydicom.pixels.convert_color_space(colour, "RGB", "YBR_FULL")
    file = write(ybr, bits=8, PhotometricInterpretation="YBR_FULL")
    assert np.abs(read_image(file, ImageSpec()).astype(int) - colour).max() <= 3


@pytest.mark.parametrize("name", ["CT_small", "MR_small_RLE", "MR_small_bigendian", "SC_rgb_rle", "SC_rgb_jpeg_dcmtk"])
def test_shipped_files_equal_pydicom(name: str) -> None:
    file = SHIPPED / f"{name}.dcm"
    data = pydicom.dcmread(file)
    theirs = pydicom.pixels.apply_modality_lut(data.pixel_array, data)
    spec = ImageSpec(channels=data.SamplesPerPixel, bit_depth=32, high=1)
    ours = read_image(file, spec)
    np.testing.assert_allclose(ours, theirs.reshape(ours.shape))


def test_depth_that_does_not_hold_the_values(write: Write, stored: npt.NDArray[np.uint16]) -> None:
    with pytest.raises(UserError, match=r"uint16, from 0 to 4095 .* image\.bit_depth 8 .* set it to 16"):
        read_image(write(stored), GREY8)
    for depth in (GREY8, GREY16):
        with pytest.raises(UserError, match=r"float32, from -1024 to 3071 .* set it to 32, and image\.windows"):
            read_image(write(stored, RescaleIntercept=-1024, RescaleSlope=1), depth)
    percentiles = ImageSpec(channels=1, percentiles=(0, 100), mean=(0,), std=(1,))
    np.testing.assert_allclose(read_image(write(stored), percentiles)[:, :, 0], stored / 4095, rtol=1e-6)


def test_no_decoder(write: Write, stored: npt.NDArray[np.uint16]) -> None:
    file = write(stored)
    data = pydicom.dcmread(file)
    data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    data["PixelData"].is_undefined_length = True
    data.save_as(file)
    if pydicom.pixels.get_decoder(JPEGLosslessSV1).is_available:
        pytest.skip("a decoder for JPEG Lossless is installed here")
    with pytest.raises(UserError, match=r"compressed as JPEG Lossless.*pip install pylibjpeg"):
        read_image(file, GREY16)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("rle", [False, True])
def test_cut_off(write: Write, stored: npt.NDArray[np.uint16], share: float, rle: bool) -> None:
    file = write(stored)
    if rle:
        data = pydicom.dcmread(file)
        data.compress(RLELossless)
        data.save_as(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError) as error:
        read_image(file, GREY16)
    assert str(file) in str(error.value)
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_no_images(write: Write, stored: npt.NDArray[np.uint16], tmp_path: Path) -> None:
    file = tmp_path / "text.dcm"
    for content in (b"hello", b"\0" * 128 + b"DICM" + b"\1" * 40, b"\x89PNG\r\n" * 100):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"text\.dcm: .*expected"):
            read_image(file, GREY16)
    with pytest.raises(UserError, match="no such file"):
        frame_count(tmp_path / "missing.dcm", "axial")
    report = pydicom.dcmread(write(stored))
    for name in ("PixelData", "Rows", "Columns"):
        delattr(report, name)
    report.save_as(file)
    with pytest.raises(UserError, match="holds no pixels"):
        read_image(file, GREY16)
