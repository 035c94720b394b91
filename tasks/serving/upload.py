"""Images as they come in a request: bytes, whose kind is told by what they begin with, never by a name."""

import tempfile
from pathlib import Path

from backbones.errors import UserError
from tasks.data.files.image_file import Pixels, frame_count
from tasks.data.files.limits import TooLarge
from tasks.prediction.loaded_model import LoadedModel
from tasks.serving.refusal import Refusal

KINDS = "JPEG, PNG, WebP, BMP, PPM, TIFF, DICOM and NIfTI"
BEGINNINGS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"II+\0", ".tif"),
    (b"MM\0+", ".tif"),
    (b"P5", ".pgm"),
    (b"P6", ".ppm"),
    (b"\x1f\x8b", ".nii.gz"),
)
NIFTI_MAGIC = (b"n+1\0", b"ni1\0")


def suffix_of(content: bytes) -> str:
    """The ending of a file with this content.

    Raises:
        Refusal: 415, it is none that can be read.
    """
    for beginning, suffix in BEGINNINGS:
        if content.startswith(beginning):
            return suffix
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    if content[128:132] == b"DICM":
        return ".dcm"
    if content[344:348] in NIFTI_MAGIC:
        return ".nii"
    raise Refusal(
        415, f"{len(content)} bytes that begin like no image; expected a file of the kinds {KINDS}, as it is", "body"
    )


def read_upload(content: bytes, model: LoadedModel, frame: int = 0) -> Pixels:
    """Stored pixels (H, W, C) in the channels and depth of the model.

    Args:
        content: of an image file.
        model: that will look at it.
        frame: which frame, page or slice of a file that holds several.

    Raises:
        Refusal: 415 or 422, it cannot be read; 413, it is too large.
    """
    suffix = suffix_of(content)
    with tempfile.TemporaryDirectory(prefix="polyhead-") as folder:
        path = Path(folder) / f"upload{suffix}"
        path.write_bytes(content)
        try:
            frames = frame_count(path, model.description.data.slice_axis)
            if frame >= frames:
                raise Refusal(422, f"frame is {frame}; expected 0 to {frames - 1}, as the file has {frames}", "frame")
            return model.read(path, frame)
        except UserError as error:
            message = str(error).replace(str(path), "the upload")
            raise Refusal(413 if isinstance(error, TooLarge) else 422, message, "body") from None
