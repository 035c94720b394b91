"""Files that hold several images: a row for each frame, page or slice."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tasks.config import SliceAxis
from tasks.data.files.image_file import frame_count


def expand_frames(root: Path, names: Sequence[str], axis: SliceAxis) -> tuple[npt.NDArray[np.int64], Tensor | None]:
    """Which file each image lies in, and which frame of it, as `Annotations.frames`; None if every file is one image.

    Args:
        root: folder that the names are relative to.
        names: of the files.
        axis: of the slices of volumes.

    Raises:
        UserError: a file cannot be read.
    """
    counts = np.array([frame_count(root / name, axis) for name in names], np.int64)
    files = np.repeat(np.arange(len(names)), counts)
    if len(files) == len(names):
        return files, None
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    return files, torch.from_numpy((np.arange(len(files)) - starts).astype(np.int32))
