"""Video files: their frames as images, and pictures as the frames of a new one."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.data.files.image_file import Pixels, fit_pixels
from tasks.image_spec import ImageSpec

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
"""Endings, in lower case, of the files that are taken for videos."""
USUAL_RATE = 25.0  # frames a second, where a file does not tell


def is_video(path: Path) -> bool:
    """Whether the name of a file ends as that of a video does."""
    return path.name.lower().endswith(SUFFIXES)


def count_frames(path: Path) -> int:
    """Frames in a video, as its header has it, or counted where the header says nothing.

    Raises:
        UserError: the file is no video that can be read, or has no frame.
    """
    capture = _opened(path)
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if count <= 0:
            count = 0
            while capture.grab():
                count += 1
    finally:
        capture.release()
    if not count:
        raise UserError(f"{path}: the video has no frame that can be decoded; expected a whole file: copy it again")
    return count


def frame_rate(path: Path) -> float:
    """Frames a second.

    Raises:
        UserError: the file is no video that can be read.
    """
    capture = _opened(path)
    try:
        return float(capture.get(cv2.CAP_PROP_FPS)) or USUAL_RATE
    finally:
        capture.release()


def read_frames(path: Path, spec: ImageSpec) -> Iterator[Pixels]:
    """Frames (H, W, C) in the channels and depth of `spec`, RGB order, upright.

    Raises:
        UserError: the file is no video that can be read, or its frames do not fit `spec`.
    """
    capture = _opened(path)
    try:
        while True:
            there, frame = capture.read()
            if not there:
                return
            yield fit_pixels(path, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), spec)
    finally:
        capture.release()


class VideoFile:
    """A new video, frame by frame.

    Args:
        path: of the file, .mp4.
        rate: frames a second.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def add(self, picture: npt.NDArray[np.uint8]) -> None:
        """Append a picture (H, W, 3) RGB; one of another size than the first is brought to that."""
        if self._writer is None:
            # Encoders want even sides.
            self._size = picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, self._size)
            if not self._writer.isOpened():
                raise UserError(f"{self.path}: cannot be written as a video; choose another --out")
        width, height = self._size
        if picture.shape[0] // 2 * 2 != height or picture.shape[1] // 2 * 2 != width:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        self._writer.write(cv2.cvtColor(picture[:height, :width], cv2.COLOR_RGB2BGR))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()


def _opened(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path)) if path.is_file() else None
    if capture is None or not capture.isOpened():
        raise UserError(f"{path}: not a video that can be read; expected a whole file: copy it again, or convert it")
    return capture
