"""Slices of NIfTI volumes, laid out as a radiologist looks at them, whatever order the file stores them in.

Decided here:
    A volume is first turned to the closest canonical orientation (RAS+: x grows to the patient's right, y to the
    front, z upwards), so that files with flipped or exchanged axes give the same slices. Rows run downwards and
    columns to the right; the patient's right is on the left of the picture, as on a film:

        axis      slices from .. to    rows from .. to       columns from .. to
        axial     feet to head         front to back         right to left
        coronal   back to front        head to feet          right to left
        sagittal  left to right        head to feet          front to back

    Images and label volumes go through the same lines, so they stay in register.
    A compressed file can only be decoded as a whole. The last volumes are kept in each process, in the type they are
    stored in, so that a pass through the slices of a volume decodes it once. Of an uncompressed file, only the slice
    is read.
"""

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.config import SliceAxis
from tasks.data.files.limits import require_array

# Canonical array axis of the slices, of the rows and of the columns; rows and columns run against it.
AXES: dict[SliceAxis, tuple[int, int, int]] = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
CACHE_BYTES = 512 * 2**20  # of decoded volumes in each process: a CT of 512 x 512 x 500, or dozens of small ones


@dataclass(frozen=True, slots=True)
class _Volume:
    """A volume with its axes in canonical order; a view of the stored values."""

    stored: npt.NDArray[Any]
    slope: float
    intercept: float

    def scaled(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What stored values mean: they themselves, or float32."""
        if self.slope == 1 and self.intercept == 0:
            return np.ascontiguousarray(values)
        return (values.astype(np.float64) * self.slope + self.intercept).astype(np.float32)


_decoded: OrderedDict[tuple[str, int, int], _Volume] = OrderedDict()  # the one used last at the end
_lock = threading.Lock()


def slice_count(path: Path, axis: SliceAxis) -> int:
    """Slices of a volume along `axis`; reads the header alone.

    Raises:
        UserError: the file cannot be read or is not one volume.
    """
    image = _open(path)
    return _shape(path, image)[_stored_axis(path, image, AXES[axis][0])]


def slice_spacing(path: Path, axis: SliceAxis) -> tuple[float, float]:
    """Millimetres from row to row and from column to column of the slices along `axis`.

    Raises:
        UserError: as `slice_count`.
    """
    import nibabel

    image = _open(path)
    sizes = nibabel.affines.voxel_sizes(image.affine) * MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    rows, columns = (float(sizes[_stored_axis(path, image, wanted)]) for wanted in AXES[axis][1:])
    return rows, columns


def read_slice(path: Path, index: int, axis: SliceAxis) -> npt.NDArray[Any]:
    """(H, W) of a slice in the type it is stored in, or float32 where the file scales its values.

    Raises:
        UserError: the file cannot be read, is not one volume, or has no such slice.
    """
    volume = _volume(path)
    slices, rows, columns = AXES[axis]
    count = volume.stored.shape[slices]
    if not 0 <= index < count:
        raise UserError(f"{path}: there is no {axis} slice {index}; expected 0 to {count - 1}: the file was replaced")
    plane = volume.stored.transpose(slices, rows, columns)[index, ::-1, ::-1]
    return volume.scaled(plane)


def read_volume(path: Path) -> npt.NDArray[Any]:
    """All values of a volume in canonical order, (x, y, z), in the type that `read_slice` gives.

    Raises:
        UserError: as `read_slice`.
    """
    volume = _volume(path)
    return volume.scaled(volume.stored)


def _volume(path: Path) -> _Volume:
    """The volume of a file; a compressed one from the cache if it is there."""
    if not path.name.lower().endswith(".gz"):
        return _load(path)
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a NIfTI volume") from None
    key = (str(path), found.st_mtime_ns, found.st_size)
    with _lock:
        if key in _decoded:
            _decoded.move_to_end(key)
            return _decoded[key]
    volume = _load(path)
    with _lock:
        _decoded[key] = volume
        while len(_decoded) > 1 and sum(kept.stored.nbytes for kept in _decoded.values()) > CACHE_BYTES:
            _decoded.popitem(last=False)
    return volume


def _load(path: Path) -> _Volume:
    import nibabel

    image = _open(path)
    shape, orientation = _shape(path, image), _orientation(path, image)
    proxy = image.dataobj
    # A compressed file of zeros is a thousandth of what it says.
    require_array(path, math.prod(shape) * proxy.dtype.itemsize, "the volume")
    try:
        stored = proxy.get_unscaled().reshape(shape)
    except Exception as error:  # zlib, gzip, mmap and numpy each have their own
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: the volume is cut off or damaged ({reason}); expected a whole one: copy it again"
        ) from None
    if stored.dtype.fields or stored.dtype.kind not in "uif":
        raise UserError(f"{path}: a voxel is {stored.dtype}; expected one real number: convert the file")
    return _Volume(nibabel.apply_orientation(stored, orientation), float(proxy.slope), float(proxy.inter))


def _open(path: Path) -> Any:
    try:
        import nibabel
    except ImportError:
        raise UserError(f"{path}: NIfTI files need nibabel; pip install 'polyhead[medical]'") from None
    try:
        return nibabel.load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: cannot be read (no such file); expected a NIfTI volume") from None
    except Exception as error:  # nibabel's readers raise whatever their input makes them stumble over
        reason = " ".join(str(error).replace(str(path), "it").split())
        raise UserError(f"{path}: not a NIfTI file that can be read ({reason}); expected .nii or .nii.gz") from None


def _shape(path: Path, image: Any) -> tuple[int, int, int]:
    """Stored shape of the one volume in the file."""
    shape = tuple(int(size) for size in image.shape)
    if len(shape) < 2 or any(size != 1 for size in shape[3:]) or 0 in shape:
        shown = " x ".join(map(str, shape))
        raise UserError(
            f"{path}: holds {shown} values; expected one volume of three dimensions: write each volume of a series "
            "as a file"
        )
    first, second, third = (*shape, 1)[:3]
    return first, second, third


def _orientation(path: Path, image: Any) -> npt.NDArray[np.float64]:
    """(3, 2): canonical axis of each stored one, and 1 or -1 for the direction."""
    import nibabel

    orientation: npt.NDArray[np.float64] = nibabel.io_orientation(image.affine)
    if not np.isfinite(orientation).all():
        raise UserError(f"{path}: the affine is singular, so no axis can be told; expected a valid sform or qform")
    return orientation


def _stored_axis(path: Path, image: Any, canonical: int) -> int:
    return int(np.flatnonzero(_orientation(path, image)[:, 0] == canonical)[0])
