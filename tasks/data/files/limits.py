"""How large a file may say that its content is. A few kilobytes can claim any size, and would fill the memory.

Looked at before anything is decoded. The environment of the process decides, since loader processes inherit it.
"""

import os
from pathlib import Path

from backbones.errors import UserError

PIXELS, ARRAY_BYTES, TEXT_BYTES = "POLYHEAD_MAX_PIXELS", "POLYHEAD_MAX_ARRAY_BYTES", "POLYHEAD_MAX_TEXT_BYTES"
DEFAULTS = {
    PIXELS: 178_956_970,  # of an image: half a gigabyte as RGB
    ARRAY_BYTES: 64 << 30,  # of an array or a volume
    TEXT_BYTES: 8 << 30,  # of a file of annotations; COCO's largest has 0.5 GB
}


class TooLarge(UserError):
    """A file claims to hold more than it may."""


def limit(name: str) -> int:
    """What the environment variable says, or the default.

    Raises:
        UserError: it is no whole number above 0.
    """
    text = os.environ.get(name, "")
    if text and not (text.isascii() and text.isdecimal() and int(text)):
        raise UserError(f"{name} is {text!r}; expected a whole number above 0")
    return int(text) if text else DEFAULTS[name]


def require_pixels(path: Path, height: int, width: int) -> None:
    """Raise `TooLarge` for an image of more pixels than allowed."""
    most = limit(PIXELS)
    if height * width > most:
        raise TooLarge(
            f"{path}: {width} x {height} pixels; expected at most {most} in all: cut the image into tiles, or set "
            f"{PIXELS} higher"
        )


def require_array(path: Path, size: int, what: str) -> None:
    """Raise `TooLarge` for an array of more bytes than allowed."""
    most = limit(ARRAY_BYTES)
    if size > most:
        raise TooLarge(
            f"{path}: {what} is of {size} bytes; expected at most {most}: the file is damaged or made to fill the "
            f"memory; if it is neither, set {ARRAY_BYTES} higher"
        )


def require_text(path: Path) -> None:
    """Raise `TooLarge` for a file of annotations or settings that is larger than allowed, OSError for none."""
    most, size = limit(TEXT_BYTES), path.stat().st_size
    if size > most:
        raise TooLarge(f"{path}: has {size} bytes; expected at most {most}: set {TEXT_BYTES} higher if it is right")


def read_bounded(path: Path) -> bytes:
    """The content of a file of annotations or settings; raises as `require_text`."""
    require_text(path)
    return path.read_bytes()
