"""One look at each image of a sample: all that the checks want to know of its pixels, so that each is read once."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from backbones.errors import UserError
from tasks.checking.clock import Clock
from tasks.checking.finding import Side
from tasks.data.annotations import Annotations
from tasks.data.files.image_file import Pixels
from tasks.data_config import DataConfig
from tasks.image_spec import ImageSpec
from tasks.normalisation import Normalisation

MOST = 2000  # images of a split that are looked at
CHUNK = 16  # images between two looks at the clock
THUMBNAIL = 32  # pixels of the side
STATISTICS = 96  # rows and columns of pixels that numbers are taken from
ENDINGS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG\r\n\x1a\n": b"IEND\xaeB`\x82"}  # by how files begin
TAIL = 64  # bytes; programs may add a few

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one image is like.

    Attributes:
        side: its split.
        index: in it.
        size: (height, width).
        digest: of its pixels.
        thumbnail: (THUMBNAIL ** 2,) its fine structure, of mean 0 and length 1; zeros of an image without any.
        mean: (C,) of the network's input.
        std: (C,) of it.
        scaled: (C,) mean of the values between black (0) and white (1), before mean and std are applied.
        inside: share of the values that lie between black and white.
        top: 99.9th percentile of the values, on that scale.
    """

    side: Side
    index: int
    size: tuple[int, int]
    digest: bytes
    thumbnail: Floats
    mean: Floats
    std: Floats
    scaled: Floats
    inside: float
    top: float


@dataclass(frozen=True, slots=True)
class Unusable:
    """An image that cannot be read.

    Attributes:
        side: its split.
        index: in it.
        reason: what the reader says.
    """

    side: Side
    index: int
    reason: str


@dataclass(slots=True)
class Looks:
    """What was seen, in no order.

    Attributes:
        seen: images that can be read.
        unusable: those that cannot.
        images: how many each split has.
    """

    seen: list[Look] = field(default_factory=list)
    unusable: list[Unusable] = field(default_factory=list)
    images: dict[Side, int] = field(default_factory=dict)

    def of(self, side: Side) -> list[Look]:
        """Those of a split, by index."""
        return sorted((look for look in self.seen if look.side == side), key=lambda look: look.index)

    def describe(self) -> str:
        """How many of how many."""
        parts = []
        for side, count in self.images.items():
            looked = [*(each.side for each in self.seen), *(each.side for each in self.unusable)].count(side)
            parts.append(f"{looked} of {count} {'training' if side == 'train' else 'validation'} images")
        return " and ".join(parts)


def look_at(splits: dict[Side, Annotations], data: DataConfig, spec: ImageSpec, clock: Clock) -> Looks:
    """Look at up to `MOST` images of each split, spread evenly, until the clock ends; the first 16 in any case.

    Files that do not end as files of their format do come first.
    """
    found = Looks(images={side: len(split) for side, split in splits.items()})
    viewer = _Viewer(data, spec)
    orders = [[(side, split, index) for index in _order(split)] for side, split in splits.items()]
    jobs = [job for job in chain(*zip_longest(*orders)) if job is not None]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # decoding lets other threads run
        for start in range(0, len(jobs), CHUNK):
            for result in pool.map(lambda job: viewer.look(*job), jobs[start : start + CHUNK]):
                if isinstance(result, Look):
                    found.seen.append(result)
                else:
                    found.unusable.append(result)
            if not clock.left():
                break
    return found


def spread(count: int, most: int) -> list[int]:
    """Up to `most` numbers below `count`, evenly spread, in an order whose beginnings are evenly spread too."""
    chosen = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
    # Van der Corput's sequence: the bits of the position in reverse.
    width = max(1, int(len(chosen) - 1).bit_length())
    keys = [int(format(position, f"0{width}b")[::-1], 2) for position in range(len(chosen))]
    return [int(index) for index in chosen[np.argsort(keys, kind="stable")]]


def _order(split: Annotations) -> list[int]:
    suspects = list(_suspects(split))
    return [*suspects, *(index for index in spread(len(split), MOST) if index not in set(suspects))]


def _suspects(split: Annotations) -> Iterator[int]:
    """Images whose file ends too early, by its last bytes alone."""
    if split.pixels is not None or split.frames is not None:
        return
    for index in range(len(split)):
        if _ends_early(split.file(index)):
            yield index


def _ends_early(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            begins = file.read(8)
            ending = next((end for start, end in ENDINGS.items() if begins.startswith(start)), None)
            file.seek(0, os.SEEK_END)
            size = file.tell()
            if ending is None:
                return size == 0
            file.seek(max(0, size - TAIL))
            return ending not in file.read()
    except OSError:
        return True


class _Viewer:
    def __init__(self, data: DataConfig, spec: ImageSpec) -> None:
        self.data, self.spec = data, spec
        self.normalisation = Normalisation(spec)

    def look(self, side: Side, split: Annotations, index: int) -> Look | Unusable:
        try:
            image = split.image(index, self.spec, self.data.exif)
        except UserError as error:
            return Unusable(side, index, str(error))
        height, width = image.shape[:2]
        rows, columns = (np.linspace(0, side - 1, min(side, STATISTICS)).astype(int) for side in (height, width))
        pixels = image[np.ix_(rows, columns)].reshape(-1, image.shape[2]).astype(np.float32)
        black, white = self.spec.black, self.spec.white
        entering = self.normalisation(torch.from_numpy(pixels.T.copy())[None, :, None])[0, :, 0].numpy()
        scaled = (pixels - black) / (white - black)
        return Look(
            side=side,
            index=index,
            size=(height, width),
            digest=hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest(),
            thumbnail=thumbnail(image),
            mean=entering.mean(1),
            std=entering.std(1),
            scaled=scaled.mean(0),
            inside=float(((pixels >= black) & (pixels <= white)).mean()),
            top=float(np.percentile(scaled, 99.9)),
        )


def thumbnail(image: Pixels) -> Floats:
    """(THUMBNAIL ** 2,) float32, what of a small grey copy of an image (H, W, C) is finer than its broad light and
    shade, of mean 0 and length 1.

    Light and shade are alike in many images, as in all X-rays of a chest; what is finer is not. It survives another
    compression, size or brightness.
    """
    grey = image.astype(np.float32).mean(axis=2) if image.shape[2] != 1 else image[:, :, 0].astype(np.float32)
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    spread = float(small.std())
    fine = small - cv2.GaussianBlur(small, (0, 0), 2)
    fine -= fine.mean()
    length = float(np.linalg.norm(fine))
    if not length or length < 1e-3 * max(spread, 1e-6) * THUMBNAIL:
        return np.zeros(THUMBNAIL**2, np.float32)
    return np.asarray(fine / length, np.float32).reshape(-1)


def stacked(looks: Iterable[Look]) -> Floats:
    """(N, THUMBNAIL ** 2) thumbnails."""
    rows: Sequence[Floats] = [look.thumbnail for look in looks]
    return np.stack(rows) if rows else np.zeros((0, THUMBNAIL**2), np.float32)
