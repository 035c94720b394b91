"""Images as an exported file takes them: resized by the rule of its run, padded into a batch. Without torch.

The numbers are those of `tasks.data.augmentation.augment.fit_for_evaluation`, but for rounding where an image of 8 bits
is averaged: there a value may differ by 1.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.evaluated_size import evaluated_part, uses_antialias
from tasks.data.files.image_file import Pixels

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Sizes = npt.NDArray[np.int64]


def prepare(image: Pixels, data: DataConfig) -> Pixels:
    """Stored pixels (H, W, C) resized, and the middle cut out where `data` says so."""
    size, (top, left, height, width) = evaluated_part((image.shape[0], image.shape[1]), data)
    resized = resize(image, size, uses_antialias(data))
    return resized[top : top + height, left : left + width]


def resize(image: Pixels, size: tuple[int, int], antialias: bool) -> Pixels:
    """(height, width, C) of the same type, by bilinear interpolation; see `geometry.resize_image`."""
    if image.shape[:2] == size:
        return image
    if not antialias or (size[0] >= image.shape[0] and size[1] >= image.shape[1]):
        resized: Pixels = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR).reshape(*size, image.shape[2])
        return resized
    whole = np.issubdtype(image.dtype, np.integer)
    between: npt.NDArray[np.float32] = image.astype(np.float32)
    between = np.einsum("oi,hic->hoc", averaging_weights(image.shape[1], size[1]), between, optimize=True)
    if image.dtype == np.uint8:  # torch rounds in between, as PIL does
        between = np.round(between)
    between = np.einsum("oi,iwc->owc", averaging_weights(image.shape[0], size[0]), between, optimize=True)
    averaged: Pixels = (np.round(between) if whole else between).astype(image.dtype)
    return averaged


def averaging_weights(before: int, after: int) -> npt.NDArray[np.float32]:
    """(after, before) the share of each pixel of a side in each of the resized side: a triangle as wide as shrunk."""
    scale = before / after
    support = max(scale, 1.0)
    centres = scale * (np.arange(after) + 0.5)
    weights = 1 - np.abs(np.arange(before) + 0.5 - centres[:, None]) / support
    weights = weights.clip(min=0)
    shares: npt.NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def pad_batch(
    images: Sequence[Pixels], divisor: int, fixed_size: tuple[int, int] | None = None
) -> tuple[Images, Sizes]:
    """A batch (B, C, H, W), uint8 or float32, padded with zeros at the right and bottom, and the sizes (B, 2) in it.

    Args:
        images: B prepared images (H, W, C).
        divisor: height and width become multiples of this.
        fixed_size: or exactly these.

    Raises:
        UserError: an image is larger than `fixed_size`.
    """
    sizes = np.array([image.shape[:2] for image in images], np.int64)
    height, width = fixed_size or (-(-sizes.max(axis=0) // divisor) * divisor).tolist()
    if (sizes > (height, width)).any():
        own = " x ".join(map(str, sizes.max(axis=0)[::-1]))
        raise UserError(
            f"an image is {own} pixels (width x height) once it is resized; the file was exported for at most "
            f"{width} x {height}: export it with --size {sizes[:, 0].max()} {sizes[:, 1].max()} or more"
        )
    dtype = np.uint8 if images[0].dtype == np.uint8 else np.float32
    batch = np.zeros((len(images), images[0].shape[2], height, width), dtype)
    for own_place, image in zip(batch, images, strict=True):
        own_place[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return batch, sizes
