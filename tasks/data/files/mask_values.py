"""The raw values of one mask: what a file stores, before it is known which class each value stands for.

Decided here:
    A palette image gives its indices, not its colours. Grey of 1, 2 or 4 bits counts as the 8-bit grey that it stands
    for, as every decoder gives it, so a black and white mask holds 0 and 255. Alpha is dropped. Files whose
    compression changes pixels (JPEG, lossy WebP) are refused: their edges hold values that nobody drew.
"""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from backbones.errors import UserError
from tasks.config import SliceAxis
from tasks.data.files.image_file import NIFTI, frame_count
from tasks.data.files.limits import require_pixels

FORMATS = ("PNG", "TIFF", "BMP", "PPM", "GIF", "WEBP", "JPEG")
LOSSY = (".jpg", ".jpeg")
GREY = {"1": "L", "LA": "L", "PA": "P"}
COLOUR = ("RGB", "RGBA", "CMYK", "YCbCr")

Values = npt.NDArray[np.int64]


def read_values(path: Path, frame: int = 0, axis: SliceAxis = "axial") -> Values:
    """(H, W) int64 of a mask file: the stored value, or red * 65536 + green * 256 + blue.

    Args:
        path: PNG, TIFF, BMP, PPM, GIF or a NIfTI volume of labels.
        frame: which page or slice.
        axis: of the slices of a volume.

    Raises:
        UserError: the file cannot be read, is lossy, or holds fractions.
    """
    if path.name.lower().endswith(NIFTI):
        from tasks.data.files.nifti_file import read_slice

        return _whole(path, read_slice(path, frame, axis))
    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            warnings.simplefilter("ignore")  # oddities of the metadata
            _require_usable(path, image, frame)
            if frame:
                image.seek(frame)
                require_pixels(path, image.height, image.width)
            if image.mode in COLOUR:
                red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(np.int64), 2, 0)
                return np.asarray((red << 16) + (green << 8) + blue)
            values = np.asarray(image.convert(GREY[image.mode]) if image.mode in GREY else image)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; expected the mask of an image") from None
    except Exception as error:  # PIL's parsers raise whatever their input makes them stumble over
        reason = " ".join(str(error).replace(str(path), "it").split())
        raise UserError(f"{path}: not a mask that can be read ({reason}); expected PNG, TIFF or BMP") from None
    return _whole(path, values)


def distinct_values(root: Path, names: Sequence[str], axis: SliceAxis, limit: int) -> tuple[set[int], bool]:
    """Values that appear in any of these masks, and whether one of them is in colour; stops above `limit` values.

    Raises:
        UserError: a mask cannot be read.
    """
    found: set[int] = set()
    colour = False
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            for values, coloured in pool.map(lambda name: _distinct(root / name, axis), names):
                found |= values
                colour |= coloured
                if len(found) > limit:
                    break
        finally:
            pool.shutdown(cancel_futures=True)
    return found, colour


def _distinct(path: Path, axis: SliceAxis) -> tuple[set[int], bool]:
    if path.name.lower().endswith(NIFTI):
        from tasks.data.files.nifti_file import read_volume

        return _set_of(_whole(path, read_volume(path))), False
    found: set[int] = set()
    for frame in range(frame_count(path, axis)):
        found |= _set_of(read_values(path, frame, axis))
    with Image.open(path) as image:
        return found, image.mode in COLOUR


def _set_of(values: Values) -> set[int]:
    if values.size and values.min() >= 0 and values.max() < 65536:  # much faster than sorting
        return set(np.flatnonzero(np.bincount(values.reshape(-1))).tolist())
    return set(np.unique(values).tolist())


def _whole(path: Path, values: npt.NDArray[np.generic]) -> Values:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    with np.errstate(invalid="ignore"):  # not a number: told below
        whole = values.astype(np.int64)
    if values.dtype.kind == "f" and not (whole == values).all():
        raise UserError(f"{path}: holds fractions; expected a whole number in each pixel, the class")
    return whole


def _require_usable(path: Path, image: Image.Image, frame: int) -> None:
    if image.format == "JPEG" or (image.format == "WEBP" and _is_lossy_webp(path)):
        raise UserError(
            f"{path}: is stored as {image.format}, which changes pixels; expected a mask in a lossless file, such as "
            "PNG"
        )
    require_pixels(path, image.height, image.width)
    pages = getattr(image, "n_frames", 1)
    if frame >= pages:
        raise UserError(f"{path}: holds {pages} masks, its image more; expected a mask for each frame of the image")


def _is_lossy_webp(path: Path) -> bool:
    with path.open("rb") as file:
        return b"VP8L" not in file.read(64)
