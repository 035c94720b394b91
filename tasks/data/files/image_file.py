"""One image file as an array of stored values: a photograph, a page of a TIFF, a DICOM frame, a slice of a volume.

Decided here:
    Alpha is dropped, not composited: what other readers (cv2, PIL's convert, torchvision) give, and so what networks
    have seen.
    A file of another depth than the spec's is scaled by the full range (8 to 16 bit: times 257), never cut or wrapped.
    Not so where values have a meaning: real numbers (bit depth 32) are the stored values of any file, unscaled, and a
    DICOM or NIfTI file whose values do not fit 8 or 16 bits as they are is refused.
    What is not finite in a file of real numbers becomes a finite value of the same image: inf the largest, -inf and
    "not a number", which programs write where they know nothing, the smallest.
"""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.config import SliceAxis
from tasks.data.files.raster_file import Exif, Pixels, page_count, read_raster
from tasks.data.files.reduced_decode import Needed, Size
from tasks.image_spec import ImageSpec

__all__ = [
    "NIFTI",
    "SUFFIXES",
    "Exif",
    "Pixels",
    "fit_pixels",
    "frame_count",
    "is_image",
    "read_image",
    "read_reduced",
    "read_spacing",
    "read_stored",
]

TIFF, DICOM, NIFTI = (".tif", ".tiff"), (".dcm", ".dicom"), (".nii", ".nii.gz")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", *TIFF, *DICOM, *NIFTI)
"""Endings, in lower case, of the files that can be read."""


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
        from tasks.data.files.nifti_file import slice_count

        return slice_count(path, axis)
    if name.endswith(DICOM):
        from tasks.data.files.dicom_file import frames_in

        return frames_in(path)
    return page_count(path) if name.endswith(TIFF) else 1


def read_spacing(path: Path, frame: int, axis: SliceAxis) -> tuple[float, float] | None:
    """Millimetres from row to row and from column to column, None if the file does not say.

    Raises:
        UserError: the file cannot be read.
    """
    name = path.name.lower()
    if name.endswith(NIFTI):
        from tasks.data.files.nifti_file import slice_spacing

        return slice_spacing(path, axis)
    if name.endswith(DICOM):
        from tasks.data.files.dicom_file import frame_spacing

        return frame_spacing(path, frame)
    return None


def read_image(
    path: Path,
    spec: ImageSpec,
    annotated_size: tuple[int, int] | None = None,
    exif: Exif = "auto",
    frame: int = 0,
    axis: SliceAxis = "axial",
) -> Pixels:
    """Read one image.

    Args:
        path: the file; see `SUFFIXES`.
        spec: channels and bit depth to return; grey is repeated for 3 channels, colour is weighted to grey (BT.601)
            for 1. With percentiles, the result is scaled by them.
        annotated_size: (height, width) in the annotations; the result has it.
        exif: whether to apply the EXIF orientation.
        frame: which frame, page or slice of a file that holds several.
        axis: of the slices of a volume.

    Returns:
        (H, W, C) uint8, uint16 or float32, contiguous, RGB order; C is `spec.stored_channels`.

    Raises:
        UserError: the file is missing, empty, damaged, cut off, no image, too large, of another size than annotated,
            or its channels or depth do not fit the spec.
    """
    return read_reduced(path, spec, None, annotated_size, exif, frame, axis)[0]


def read_reduced(
    path: Path,
    spec: ImageSpec,
    needed: Needed | None,
    annotated_size: Size | None = None,
    exif: Exif = "auto",
    frame: int = 0,
    axis: SliceAxis = "axial",
) -> tuple[Pixels, Size]:
    """An image, and the height and width of the whole one, where something smaller may do.

    An 8-bit JPEG whose size is at least twice what `needed` says of it is decoded at a half, a quarter or an eighth of
    the scale; percentiles are those of whole images. The other arguments and errors are as in `read_image`.
    """
    reducible = needed if spec.percentiles is None else None
    image, size = _read(path, annotated_size, exif, frame, axis, reducible)
    if path.name.lower().endswith((*DICOM, *NIFTI)) and spec.percentiles is None:
        _require_depth(path, image, spec.bit_depth)
        if spec.bit_depth == 16:
            image = image.astype(np.uint16, copy=False)  # 8 bits hold the same values, and are not scaled to 16
    return fit_pixels(path, image, spec), size


def read_stored(path: Path, annotated_size: Size | None, exif: Exif, frame: int, axis: SliceAxis) -> Pixels:
    """(H, W) or (H, W, C) of one image in the channels and the type that its file has; arguments as in `read_image`.

    Raises:
        UserError: as `read_image`, whatever the spec.
    """
    return _read(path, annotated_size, exif, frame, axis, None)[0]


def _read(
    path: Path, annotated_size: Size | None, exif: Exif, frame: int, axis: SliceAxis, needed: Needed | None
) -> tuple[Pixels, Size]:
    name = path.name.lower()
    if name.endswith(NIFTI):
        from tasks.data.files.nifti_file import read_slice

        image = read_slice(path, frame, axis)
        size = image.shape[0], image.shape[1]
    elif name.endswith(DICOM):
        from tasks.data.files.dicom_file import read_frame

        image = read_frame(path, frame)
        size = image.shape[0], image.shape[1]
    else:
        image, size = read_raster(path, annotated_size, exif, frame, needed)
    if annotated_size is not None and size != annotated_size:
        found, stated = (f"{width} x {height}" for height, width in (size, annotated_size))
        raise UserError(
            f"{path}: the image is {found} pixels (width x height), annotated as {stated}; expected the size that "
            "was annotated: the file was replaced or resized, or belongs to another annotation"
        )
    return image, size


def fit_pixels(path: Path, image: Pixels, spec: ImageSpec) -> Pixels:
    """Bring stored pixels (H, W) or (H, W, C) of `path` to the channels and depth of `spec`.

    Raises:
        UserError: they do not fit it.
    """
    image = image[:, :, None] if image.ndim == 2 else image
    if spec.stores_real_numbers:
        if image.dtype not in (np.uint8, np.uint16):  # kept as they are until percentiles are known
            image = _finite(image.astype(np.float32))
    elif image.dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"{path}: the pixels are {image.dtype}; expected {spec.bit_depth} bit without sign: set image.bit_depth to "
            "32, and image.windows, image.percentiles, or image.low and image.high"
        )
    image = _fit_channels(path, image, spec.stored_channels)
    if spec.percentiles is not None:
        return _between_percentiles(image, *spec.percentiles)
    return _fit_depth(image, spec.bit_depth)


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


def _require_depth(path: Path, image: Pixels, bit_depth: int) -> None:
    """Refuse to rescale values that have a meaning."""
    fits = {8: (np.uint8,), 16: (np.uint8, np.uint16)}.get(bit_depth)
    if fits is None or image.dtype in fits:
        return
    if image.dtype == np.uint16:
        wanted = "16, and image.high or image.windows to what is white"
    else:
        wanted = "32, and image.windows, image.percentiles, or image.low and image.high"
    raise UserError(
        f"{path}: the values are {image.dtype}, from {image.min():g} to {image.max():g} in this image; image.bit_depth "
        f"{bit_depth} does not hold them: set it to {wanted}"
    )


def _fit_depth(image: Pixels, bit_depth: int) -> Pixels:
    if bit_depth == 32:
        return image.astype(np.float32, copy=False)
    if image.dtype == np.uint8:
        return image if bit_depth == 8 else image.astype(np.uint16) * np.uint16(257)
    return image if bit_depth == 16 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _between_percentiles(image: Pixels, low: float, high: float) -> npt.NDArray[np.float32]:
    """float32, 0 at the lower percentile of all pixels and 1 at the upper one; all 0 where they are one."""
    black, white = np.percentile(image, (low, high))
    if not black < white:
        return np.zeros(image.shape, np.float32)
    return ((image.astype(np.float32) - np.float32(black)) / np.float32(white - black)).clip(0, 1)


def _finite(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    known = np.isfinite(image)
    if known.all():
        return image
    smallest, largest = (image[known].min(), image[known].max()) if known.any() else (0.0, 0.0)
    return np.nan_to_num(image, nan=smallest, neginf=smallest, posinf=largest)
