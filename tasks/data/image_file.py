"""One image file as an array of stored values: RGB or grey, 8 or 16 bit, upright as its annotator saw it.

Decided here:
    Alpha is dropped, not composited: what other readers (cv2, PIL's convert, torchvision) give, and so what networks
    have seen. CMYK and YCCK go through PIL, which knows Adobe's inverted values; a palette is looked up.
    A file of another depth than the spec's is scaled by the full range (8 to 16 bit: times 257), never cut or wrapped.
    EXIF orientation under "auto": turned, unless the annotated size is that of the stored pixels and not that of the
    turned ones. Where both fit (square images, half turns, mirrors) or no size is annotated, it is turned, as every
    annotation tool does today.
"""

import io
import warnings
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from backbones.errors import UserError
from tasks.config import SliceAxis
from tasks.image_spec import ImageSpec

Pixels = npt.NDArray[Any]  # uint8, uint16 or float32
Exif = Literal["auto", "apply", "ignore"]
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM")
MAX_PIXELS = 178_956_970  # a file of a few kilobytes may claim any size; this is half a gigabyte as RGB
ORIENTATION = 0x0112  # EXIF tag, 1 .. 8
TIFF, DICOM, NIFTI = (".tif", ".tiff"), (".dcm", ".dicom"), (".nii", ".nii.gz")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", *TIFF, *DICOM, *NIFTI)
"""Endings, in lower case, of the files that can be read."""

# What cv2 would print about a damaged file is said once, with the file's name, by the UserError.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def is_image(path: Path) -> bool:
    """Whether the name of a file ends as that of an image does."""
    return path.name.lower().endswith(SUFFIXES)


def frame_count(path: Path, axis: SliceAxis) -> int:
    """Images in a file: frames of a DICOM, slices of a volume along `axis`, pages of a TIFF, 1 for all others.

    Only headers are read; of the others, nothing.

    Raises:
        UserError: the file cannot be read.
    """
    name = path.name.lower()
    if name.endswith(NIFTI):
        from tasks.data.nifti_file import slice_count

        return slice_count(path, axis)
    if name.endswith(DICOM):
        from tasks.data.dicom_file import frames_in

        return frames_in(path)
    if not name.endswith(TIFF):
        return 1
    try:
        return int(getattr(_header(path, path.read_bytes()), "n_frames", 1))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected an image file") from None


def read_image(
    path: Path,
    spec: ImageSpec,
    annotated_size: tuple[int, int] | None = None,
    exif: Exif = "auto",
    frame: int = 0,
    axis: SliceAxis = "axial",
) -> Pixels:
    """Read a JPEG, PNG, TIFF, BMP, WebP or PPM file.

    Args:
        path: the file.
        spec: channels and bit depth to return; grey is repeated for 3 channels, colour is weighted to grey (BT.601)
            for 1.
        annotated_size: (height, width) in the annotations; the result has it.
        exif: whether to apply the EXIF orientation.
        frame: which frame or slice of a file that holds several.
        axis: of the slices of a volume.

    Returns:
        (H, W, C) uint8 or uint16, contiguous, RGB order.

    Raises:
        UserError: the file is missing, empty, damaged, cut off, no image, too large, of another size than annotated,
            or its channels or depth do not fit the spec.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected an image file") from None
    if not data:
        raise UserError(
            f"{path}: the file is empty; expected an image: copy it again or take it out of the annotations"
        )
    header = _header(path, data)
    orientation = _orientation(header)
    image = _decode(path, data, header)
    image = image[:, :, None] if image.ndim == 2 else image
    if header.format == "TIFF":  # both decoders turn these on their own; 6 and 8 undo each other, the others themselves
        image = turn(image, {6: 8, 8: 6}.get(orientation, orientation))
    image = turn(image, _choose_orientation(orientation, image.shape[:2], annotated_size, exif))
    if annotated_size is not None and image.shape[:2] != annotated_size:
        found, stated = (f"{width} x {height}" for height, width in (image.shape[:2], annotated_size))
        raise UserError(
            f"{path}: the image is {found} pixels (width x height), annotated as {stated}; expected the size that "
            "was annotated: "
            "the file was replaced or resized, or belongs to another annotation"
        )
    return fit_pixels(path, image, spec)


def fit_pixels(path: Path, image: Pixels, spec: ImageSpec) -> Pixels:
    """Bring stored pixels (H, W) or (H, W, C) of `path` to the channels and depth of `spec`.

    Raises:
        UserError: they do not fit it.
    """
    image = image[:, :, None] if image.ndim == 2 else image
    return _fit_depth(path, _fit_channels(path, image, spec.channels), spec.bit_depth)


def turn(image: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation, 1 .. 8 (Exif 2.32, tag 0x0112), by flips and a transposition; contiguous."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _choose_orientation(orientation: int, stored: tuple[int, ...], annotated: tuple[int, int] | None, exif: str) -> int:
    if exif == "ignore":
        return 1
    turned = stored[::-1] if orientation >= 5 else stored
    if exif == "auto" and stored == annotated and turned != annotated:
        return 1
    return orientation


def _header(path: Path, data: bytes) -> Image.Image:
    """Format, mode and size, without decoding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of the metadata, and PIL's own lower bound on the size
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise UserError(
            f"{path}: holds more than {MAX_PIXELS} pixels; expected less: cut the image into tiles"
        ) from None
    except Exception:  # PIL's parsers raise whatever their input makes them stumble over
        raise UserError(f"{path}: not an image that can be read; expected one of {', '.join(FORMATS)}") from None
    if image.width * image.height > MAX_PIXELS:
        raise UserError(
            f"{path}: {image.width} x {image.height} pixels; expected at most {MAX_PIXELS} in all: cut the image "
            "into tiles"
        )
    return image


def _orientation(header: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = header.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not make the pixels worse
        return 1
    return value if value in range(1, 9) else 1


def _decode(path: Path, data: bytes, header: Image.Image) -> Pixels:
    """(H, W) or (H, W, C) in the channels of the file."""
    # Some builds of libjpeg fill what is missing with grey. A JPEG ends in a marker that its compressed data cannot
    # contain; a file with something behind the image, as phones write, may lack it at the place looked at, so PIL has
    # the last word.
    cut_off = header.format == "JPEG" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    if cut_off or header.mode not in ("L", "RGB", "RGBA", "I;16", "I;16B"):
        return _decode_slowly(path, header)
    flags = cv2.IMREAD_COLOR_RGB if header.format in ("JPEG", "MPO") and header.mode == "RGB" else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        return _decode_slowly(path, header)
    if flags == cv2.IMREAD_UNCHANGED and image.ndim == 3 and image.shape[2] in (3, 4):
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return image


def _decode_slowly(path: Path, header: Image.Image) -> Pixels:
    mode = {"1": "L", "LA": "L", "PA": "RGB", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header.load()
            # Through RGBA, because a palette may carry transparency that `convert` would warn about.
            source = header.convert("RGBA") if header.mode == "P" and "transparency" in header.info else header
            return np.asarray(source.convert(mode.get(header.mode, header.mode)))
    except Exception as error:  # see _header
        raise UserError(
            f"{path}: the image is cut off or damaged ({error}); expected a whole one: copy it again or take it out "
            "of the annotations"
        ) from None


def _fit_channels(path: Path, image: Pixels, channels: int) -> Pixels:
    found = image.shape[2]
    if found == channels:
        return image
    if channels in (1, 3) and found in (2, 4):  # the last one is alpha
        image, found = np.ascontiguousarray(image[:, :, : found - 1]), found - 1
    if found == channels:
        return image
    if channels == 3 and found == 1:
        return np.repeat(image, 3, axis=2)
    if channels == 1 and found == 3:
        grey: Pixels = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return grey[:, :, None]
    raise UserError(
        f"{path}: the image has {found} channels, image.channels is {channels}; expected as many: set it to {found}"
    )


def _fit_depth(path: Path, image: Pixels, bit_depth: int) -> Pixels:
    if image.dtype == np.uint8:
        return image if bit_depth == 8 else image.astype(np.uint16) * np.uint16(257)
    if image.dtype == np.uint16:
        return image if bit_depth == 16 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise UserError(f"{path}: the pixels are {image.dtype}; expected 8 or 16 bit without sign: convert the file")
