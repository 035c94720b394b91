"""DICOM frames: stored values turned into what they mean.

Decided here:
    Values are rescaled as the file says (slope and intercept, or a lookup table; DICOM PS3.3 C.11.1): float32 where
    that changes anything or where stored values have a sign, else the stored values, uint8 or uint16. An image of 12
    bits gives 0 .. 4095, whatever the 16 bits it is stored in could hold. The window that the file suggests for
    viewing is not applied: it differs from image to image; `ImageSpec.windows` is for all.
    MONOCHROME1, where the lowest value is white, becomes MONOCHROME2 by turning the range of stored values round
    before rescaling (PS3.3 C.7.6.3.1.2): larger is brighter in every image. A window meant for such a file's own
    values has its centre turned round alike.
    Colour is RGB: YBR is converted, a palette is looked up.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.data.files.limits import require_pixels

Values = npt.NDArray[Any]


def frames_in(path: Path) -> int:
    """Frames of a file; reads the header alone.

    Raises:
        UserError: the file cannot be read.
    """
    return int(_header(path).get("NumberOfFrames") or 1)


def frame_spacing(path: Path, frame: int) -> tuple[float, float] | None:
    """Millimetres from row to row and from column to column: in the patient, else at the detector; None if not stated.

    Raises:
        UserError: the file cannot be read.
    """
    header = _header(path)
    measures = _functional(header, frame, "PixelMeasuresSequence")
    for holder, name in ((measures, "PixelSpacing"), (header, "PixelSpacing"), (header, "ImagerPixelSpacing")):
        spacing = holder.get(name) if holder is not None else None
        if spacing is not None and len(spacing) == 2 and all(float(step) > 0 for step in spacing):
            return float(spacing[0]), float(spacing[1])
    return None


def read_frame(path: Path, frame: int = 0) -> Values:
    """(H, W) or (H, W, 3) uint8, uint16 or float32 of one frame.

    Raises:
        UserError: the file is missing, is no DICOM image, is cut off, is compressed in a way that no installed decoder
            knows, or has no such frame.
    """
    header = _header(path)
    count = int(header.get("NumberOfFrames") or 1)
    if "Rows" not in header:
        kind = getattr(header.get("SOPClassUID"), "name", "of unknown kind")
        raise UserError(f"{path}: holds no pixels ({kind}); expected an image: take the file out of the data")
    if not 0 <= frame < count:
        raise UserError(f"{path}: there is no frame {frame}; expected 0 to {count - 1}: the file was replaced")
    require_pixels(path, int(header.Rows), int(header.get("Columns") or 0))
    _require_decoder(path, header)
    import pydicom.pixels

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values: Values = pydicom.pixels.pixel_array(path, index=frame)  # reads this frame alone
            if header.get("PhotometricInterpretation") == "PALETTE COLOR":
                values = pydicom.pixels.apply_color_lut(values, header)
            return _meaning(header, frame, values)
    except Exception as error:  # each decoder has its own
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: the pixels are cut off or damaged ({reason}); expected a whole file: copy it again"
        ) from None


def _meaning(header: Any, frame: int, values: Values) -> Values:
    """Grey turned the right way round and rescaled; colour as it is."""
    if values.ndim == 3:
        return values
    import pydicom.pixels

    inverted = header.get("PhotometricInterpretation") == "MONOCHROME1"
    transformation = _functional(header, frame, "PixelValueTransformationSequence") or header
    if header.get("ModalityLUTSequence"):
        values = pydicom.pixels.apply_modality_lut(values, header)
        if inverted:
            values = 2 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1 - values.astype(np.float32)
        return values.astype(np.float32)
    slope = float(transformation.get("RescaleSlope", 1) or 1)
    intercept = float(transformation.get("RescaleIntercept", 0) or 0)
    if inverted and values.dtype.kind in "ui":
        # The sum of the smallest and the largest stored value.
        ends = -1 if values.dtype.kind == "i" else 2 ** int(header.BitsStored) - 1
        values = (ends - values.astype(np.int64)).astype(values.dtype)
    elif inverted:
        values = -values
    if slope == 1 and intercept == 0 and values.dtype in (np.uint8, np.uint16):
        return values
    return (values.astype(np.float64) * slope + intercept).astype(np.float32)


def _functional(header: Any, frame: int, name: str) -> Any | None:
    """What an enhanced multi-frame file says of one frame, or of all, under `name`; None if nothing."""
    frames = header.get("PerFrameFunctionalGroupsSequence") or ()
    own = [frames[frame]] if frame < len(frames) else []
    for group in (*own, *(header.get("SharedFunctionalGroupsSequence") or ())):
        if group.get(name):
            return group[name][0]
    return None


def _require_decoder(path: Path, header: Any) -> None:
    import pydicom.pixels

    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError:
        raise UserError(
            f"{path}: the pixels are compressed as {syntax.name} ({syntax}), which nothing here decodes; expected "
            "another transfer syntax: decompress the file, with dcmdjpeg or gdcmconv --raw"
        ) from None
    if not decoder.is_available:
        raise UserError(
            f"{path}: the pixels are compressed as {syntax.name} ({syntax}), for which no decoder is installed; "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or decompress the file"
        )


def _header(path: Path) -> Any:
    """Everything but the pixels."""
    try:
        import pydicom
    except ImportError:
        raise UserError(f"{path}: DICOM files need pydicom; pip install 'polyhead[medical]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, stop_before_pixels=True)
    except FileNotFoundError:
        raise UserError(f"{path}: cannot be read (no such file); expected a DICOM file") from None
    except Exception as error:  # pydicom's parsers raise whatever their input makes them stumble over
        reason = " ".join(str(error).replace(str(path), "it").split())
        raise UserError(f"{path}: not a DICOM file that can be read ({reason}); expected DICOM part 10") from None
