"""DICOM images: stored values turned into what they mean."""

import warnings
from pathlib import Path
from typing import Any

from backbones.errors import UserError


def frames_in(path: Path) -> int:
    """Frames of a file; reads the header alone.

    Raises:
        UserError: the file cannot be read.
    """
    return int(_read_header(path).get("NumberOfFrames") or 1)


def _read_header(path: Path) -> Any:
    """The data set without its pixels."""
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
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a DICOM file that can be read ({reason}); expected DICOM part 10") from None
