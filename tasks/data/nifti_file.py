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
"""

from pathlib import Path
from typing import Any

from backbones.errors import UserError
from tasks.config import SliceAxis

# Canonical array axis of the slices, of the rows and of the columns.
AXES: dict[SliceAxis, tuple[int, int, int]] = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}


def slice_count(path: Path, axis: SliceAxis) -> int:
    """Slices of a volume along `axis`; reads the header alone.

    Raises:
        UserError: the file cannot be read or is not one volume.
    """
    image = _open(path)
    return int(_spatial_shape(path, image)[_stored_axes(image)[AXES[axis][0]]])


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
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a NIfTI file that can be read ({reason}); expected .nii or .nii.gz") from None


def _spatial_shape(path: Path, image: Any) -> tuple[int, int, int]:
    """Stored shape of the one volume in the file, (x, y, z)."""
    shape = tuple(image.shape)
    if len(shape) < 2 or any(size != 1 for size in shape[3:]) or 0 in shape:
        shown = " x ".join(map(str, shape))
        raise UserError(f"{path}: the volume is {shown}; expected one of three dimensions: write each as a file")
    rows, columns, slices = (*shape, 1)[:3]
    return rows, columns, slices


def _stored_axes(image: Any) -> dict[int, int]:
    """Stored array axis of each canonical one."""
    import nibabel

    orientation = nibabel.io_orientation(image.affine)
    return {int(canonical): stored for stored, (canonical, _) in enumerate(orientation)}
