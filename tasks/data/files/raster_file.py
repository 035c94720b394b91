"""Photographs and the like: JPEG, PNG, TIFF, BMP, WebP and PPM files, upright as their annotator saw them.

Decided here:
    Alpha is kept, CMYK and YCCK go through PIL, which knows Adobe's inverted values; a palette is looked up.
    EXIF orientation under "auto": turned, unless the annotated size is that of the stored pixels and not that of the
    turned ones. Where both fit (square images, half turns, mirrors) or no size is annotated, it is turned, as every
    annotation tool does today.
    The pages of a TIFF are images of their own.
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
from tasks.data.files.limits import require_pixels
from tasks.data.files.reduced_decode import Needed, Size, reduction

Pixels = npt.NDArray[Any]
Exif = Literal["auto", "apply", "ignore"]
JPEG = ("JPEG", "MPO")
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM")
# By the factor; together with IMREAD_COLOR_RGB they give colour.
REDUCED = {
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
ORIENTATION = 0x0112  # EXIF tag, 1 .. 8

# What cv2 would print about a damaged file is said once, with the file's name, by the UserError.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def page_count(path: Path) -> int:
    """Pages of a TIFF; reads the headers alone.

    Raises:
        UserError: the file cannot be read.
    """
    return _pages(path, _header(path, _content(path)))


def read_raster(
    path: Path, annotated_size: Size | None, exif: Exif, page: int = 0, needed: Needed | None = None
) -> tuple[Pixels, Size]:
    """One image in the channels and depth of the file.

    Args:
        path: the file.
        annotated_size: (height, width) in the annotations.
        exif: whether to apply the EXIF orientation.
        page: of a TIFF.
        needed: how large the image has to be; an 8-bit JPEG may then be decoded at a reduced scale.

    Returns:
        (H, W) or (H, W, C) uint8, uint16, int32 or float32, RGB order; and the height and width of the whole image.

    Raises:
        UserError: the file is missing, empty, damaged, cut off, no image, too large, or has no such page.
    """
    data = _content(path)
    header = _header(path, data)
    if page:
        _turn_to(path, header, page)
    orientation, stored, factor = _orientation(header), (header.height, header.width), 1
    if needed is not None and header.format in JPEG:
        size = _turned(stored, _choose_orientation(orientation, stored, annotated_size, exif))
        factor = reduction(size, needed(size))
    image = _decode(path, data, header, page, factor)
    if header.format == "TIFF":  # both decoders turn these on their own; 6 and 8 undo each other, the others themselves
        image = turn(image, {6: 8, 8: 6}.get(orientation, orientation))
    if header.format not in JPEG:  # PIL's header may already be turned
        stored = image.shape[0], image.shape[1]
    chosen = _choose_orientation(orientation, stored, annotated_size, exif)
    return turn(image, chosen), _turned(stored, chosen)


def turn(image: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation, 1 .. 8 (Exif 2.32, tag 0x0112), by flips and a transposition; contiguous."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected an image file") from None
    if not data:
        raise UserError(
            f"{path}: the file is empty; expected an image: copy it again or take it out of the annotations"
        )
    return data


def _choose_orientation(orientation: int, stored: Size, annotated: Size | None, exif: str) -> int:
    if exif == "ignore":
        return 1
    if exif == "auto" and stored == annotated and _turned(stored, orientation) != annotated:
        return 1
    return orientation


def _turned(size: Size, orientation: int) -> Size:
    return size[::-1] if orientation >= 5 else size


def _header(path: Path, data: bytes) -> Image.Image:
    """Format, mode and size, without decoding."""
    Image.MAX_IMAGE_PIXELS = None  # ours comes below, for all kinds of files
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of the metadata
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception:  # PIL's parsers raise whatever their input makes them stumble over
        raise UserError(f"{path}: not an image that can be read; expected one of {', '.join(FORMATS)}") from None
    require_pixels(path, image.height, image.width)
    return image


def _pages(path: Path, header: Image.Image) -> int:
    try:
        return int(getattr(header, "n_frames", 1))
    except Exception as error:  # the headers of all pages are read for it; see _header
        raise UserError(f"{path}: a page is damaged ({error}); expected a whole file: copy it again") from None


def _turn_to(path: Path, header: Image.Image, page: int) -> None:
    """Make `header` that of another page."""
    pages = _pages(path, header)
    if page >= pages:
        raise UserError(f"{path}: there is no page {page}; expected 0 to {pages - 1}: the file was replaced")
    try:
        header.seek(page)
    except Exception as error:  # see _header
        raise UserError(f"{path}: page {page} is damaged ({error}); expected a whole file: copy it again") from None
    require_pixels(path, header.height, header.width)


def _orientation(header: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = header.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not make the pixels worse
        return 1
    return value if value in range(1, 9) else 1


def _decode(path: Path, data: bytes, header: Image.Image, page: int, factor: int = 1) -> Pixels:
    """(H, W) or (H, W, C) in the channels of the file; `factor` is 1, or for JPEG 2, 4 or 8."""
    # Some builds of libjpeg fill what is missing with grey. A JPEG ends in a marker that its compressed data cannot
    # contain; a file with something behind the image, as phones write, may lack it at the place looked at, so PIL has
    # the last word.
    cut_off = header.format == "JPEG" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    if cut_off or header.mode not in ("L", "RGB", "RGBA", "I;16", "I;16B"):
        return _decode_slowly(path, header)
    rgb = header.format in JPEG and header.mode == "RGB"
    flags = cv2.IMREAD_COLOR_RGB if rgb else cv2.IMREAD_UNCHANGED
    if factor > 1:
        flags = REDUCED[factor] | (cv2.IMREAD_COLOR_RGB if rgb else 0)
    flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        if page:
            found, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), flags, None, (page, page + 1))
            image = pages[0] if found else None
        else:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        return _decode_slowly(path, header)
    if not rgb and image.ndim == 3 and image.shape[2] in (3, 4):
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
