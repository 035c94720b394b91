"""The images that the arguments of a command mean, read one after another; what cannot be read is told and left out."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.files.image_file import Pixels, frame_count, is_image, read_image
from tasks.image_spec import ImageSpec
from tasks.prediction.video import count_frames, is_video, read_frames
from tasks.progress import Reporter

CUT_OFF = 0.9  # share of its frames below which a video is called cut off: headers may be wrong by a few


@dataclass(frozen=True, slots=True)
class ImagePlace:
    """An image: a file, or one frame or slice of it.

    Attributes:
        file: the file.
        frame: which of its images.
        several: whether it holds more than one.
    """

    file: Path
    frame: int
    several: bool

    def stem(self, image_id: int) -> str:
        """Name, without its ending, of a file about it; unique in a folder."""
        return f"{self.file.name.split('.')[0]}_{image_id:05d}"

    def __str__(self) -> str:
        return f"{self.file}[{self.frame}]" if self.several else str(self.file)


def find_images(patterns: Sequence[str], videos: bool = False) -> list[Path]:
    """Image files that the arguments mean, each once, sorted within a folder or pattern.

    Args:
        patterns: files, folders or glob patterns.
        videos: whether video files are images too.

    Raises:
        UserError: an argument is neither a file, a folder with images, nor a pattern that matches one.
    """
    files: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            found = [file for file in sorted(path.iterdir()) if is_image(file) or (videos and is_video(file))]
        elif path.is_file():
            found = [path]
        else:
            found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if Path(name).is_file()]
        if not found:
            raise UserError(f"{pattern}: no image there; expected an image, a folder of images or a glob pattern")
        files |= dict.fromkeys(found)
    return list(files)


class ImageReader:
    """Number, from 1, place and stored pixels (H, W, C) of each image of some files in turn, under a progress bar.

    One that cannot be read is left out, and told at the end.

    Args:
        files: images and videos.
        spec: what the pixels shall be.
        data: how files are read.
        reporter: shows the bar.
        what: names it.

    Attributes:
        unreadable: a line for each image that could not be read.

    Raises:
        UserError: none could be read; at the end.
    """

    def __init__(self, files: Sequence[Path], spec: ImageSpec, data: DataConfig, reporter: Reporter, what: str) -> None:
        self._files, self._spec, self._data = files, spec, data
        self._reporter, self._what = reporter, what
        self.unreadable: list[str] = []

    def __iter__(self) -> Iterator[tuple[int, ImagePlace, Pixels]]:
        self.unreadable.clear()
        counts = {file: count for file in self._files if (count := self._count(file))}
        done = 0
        images = self._reporter.track(self._images(counts), sum(counts.values()), self._what)
        for image_id, (place, image) in enumerate(images, start=1):
            if image is None:
                continue
            yield image_id, place, image
            done += 1
        for line in self.unreadable:
            self._reporter.say(f"left out: {line}")
        if not done:
            raise UserError(f"none of the {len(self._files)} files could be read")

    def _count(self, file: Path) -> int:
        """Images in a file; 0 where it cannot be read."""
        try:
            return count_frames(file) if is_video(file) else frame_count(file, self._data.slice_axis)
        except UserError as error:
            self.unreadable.append(str(error))
            return 0

    def _images(self, counts: dict[Path, int]) -> Iterator[tuple[ImagePlace, Pixels | None]]:
        for file, count in counts.items():
            if is_video(file):
                read = 0
                try:
                    for read, image in enumerate(read_frames(file, self._spec), start=1):
                        yield ImagePlace(file, read - 1, True), image
                except UserError as error:
                    self.unreadable.append(str(error))
                    continue
                if read < CUT_OFF * count:
                    self.unreadable.append(f"{file}: ends after {read} of {count} frames; expected a whole file")
                continue
            for frame in range(count):
                place = ImagePlace(file, frame, count > 1)
                try:
                    yield (
                        place,
                        read_image(file, self._spec, exif=self._data.exif, frame=frame, axis=self._data.slice_axis),
                    )
                except UserError as error:
                    self.unreadable.append(str(error))
                    yield place, None
