"""Large images by tiles: each is searched on its own, and what is found twice is merged.

Sliced inference as in Akyon et al., "Slicing aided hyper inference and fine-tuning for small object detection",
arXiv:2202.06934. An object that the border of a tile cuts is found as a part in one tile and whole in another, if it is
smaller than the overlap. So boxes of a class are merged by how much of the smaller one lies in the larger one, and not
by IoU: of those that share more than half of it, the one that scores best is kept, and one that touches an inner border
of its tile comes after all that do not.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.data.files.image_file import Pixels
from tasks.prediction.engine import Engine
from tasks.prediction.found import Found
from tasks.prediction.found_boxes import FoundBoxes

SHARED = 0.5  # of the smaller of two boxes, from which on they are one object
AT_BORDER = 1.0  # pixels from an inner border of its tile, within which a box is taken for cut


class TiledEngine(Engine):
    """An engine that looks at images in tiles.

    Args:
        engine: what looks at each tile, as at an image of its own.
        tile: pixels along the sides of a tile; images that are smaller are one tile.
        overlap: share of a tile that the next one covers again, 0 .. 0.9.
        batch: tiles at once.

    Raises:
        UserError: a number is out of range, or a head finds something else than boxes.
    """

    def __init__(self, engine: Engine, tile: int, overlap: float = 0.2, batch: int = 4) -> None:
        if tile < 32:
            raise UserError(f"tile is {tile}; expected at least 32 pixels")
        if not 0 <= overlap <= 0.9:
            raise UserError(f"overlap is {overlap:g}; expected 0 to 0.9, the share of a tile")
        for name, head in engine.description.heads.items():
            if head.kind != "boxes":
                way = "inference.window in the config" if head.kind == "masks" else "whole images"
                raise UserError(f"tile is for boxes, and the head {name!r} gives {head.kind}; use {way} for those")
        self.description = engine.description
        self.engine, self.tile, self.overlap, self.batch = engine, tile, overlap, batch

    def predict(self, images: Sequence[Pixels]) -> list[Mapping[str, Found]]:
        """See `Engine`."""
        return [self._one(image) for image in images]

    def _one(self, image: Pixels) -> Mapping[str, Found]:
        height, width = image.shape[:2]
        corners = [
            (top, left)
            for top in tile_starts(height, self.tile, self.overlap)
            for left in tile_starts(width, self.tile, self.overlap)
        ]
        parts: dict[str, list[tuple[FoundBoxes, npt.NDArray[np.bool_]]]] = {name: [] for name in self.description.heads}
        for first in range(0, len(corners), self.batch):
            some = corners[first : first + self.batch]
            tiles = [image[top : top + self.tile, left : left + self.tile] for top, left in some]
            for corner, tile, found in zip(some, tiles, self.engine.predict(tiles), strict=True):
                for name, boxes in found.items():
                    assert isinstance(boxes, FoundBoxes)  # the constructor has looked
                    parts[name].append(_moved(boxes, corner, tile.shape[:2], (height, width)))
        return {name: merge_tiles(own) for name, own in parts.items()}


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along a side, so that they cover it; the last one ends with the image."""
    if tile >= length:
        return [0]
    step = max(int(tile * (1 - overlap)), 1)
    return [*range(0, length - tile, step), length - tile]


def _moved(
    found: FoundBoxes, corner: tuple[int, int], tile: tuple[int, ...], size: tuple[int, int]
) -> tuple[FoundBoxes, npt.NDArray[np.bool_]]:
    """Boxes of a tile in pixels of the image of (height, width) `size`, and which of them its inner borders may cut."""
    (top, left), (height, width) = corner, tile[:2]
    x1, y1, x2, y2 = found.boxes.T
    cut = (left > 0) & (x1 <= AT_BORDER) | (top > 0) & (y1 <= AT_BORDER)
    cut |= (left + width < size[1]) & (x2 >= width - AT_BORDER) | (top + height < size[0]) & (y2 >= height - AT_BORDER)
    boxes = found.boxes + np.array([left, top, left, top], np.float32)
    return FoundBoxes(boxes, found.scores, found.labels, size, found.cells), cut


def merge_tiles(parts: Sequence[tuple[FoundBoxes, npt.NDArray[np.bool_]]]) -> FoundBoxes:
    """All boxes of some tiles, best first, without those that another one stands for.

    Args:
        parts: boxes in pixels of the image, and which of them (N,) are cut by a border of their tile.
    """
    boxes, scores, labels = (
        np.concatenate([getattr(part, name) for part, _ in parts]) for name in ("boxes", "scores", "labels")
    )
    cut = np.concatenate([own for _, own in parts])
    cells = None
    if all(part.cells is not None for part, _ in parts):
        cells = np.concatenate([part.cells for part, _ in parts if part.cells is not None])
    together = FoundBoxes(boxes, scores, labels, parts[0][0].image_size, cells)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    waiting = np.lexsort((-scores, cut))  # whole ones first, each by score
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        low, high = np.maximum(boxes[best, :2], boxes[waiting, :2]), np.minimum(boxes[best, 2:], boxes[waiting, 2:])
        shared = np.prod((high - low).clip(min=0), axis=1)
        smaller = np.minimum(areas[best], areas[waiting]).clip(min=1e-6)
        waiting = waiting[(labels[waiting] != labels[best]) | (shared / smaller <= SHARED)]
    order = np.array(kept, np.int64)
    return together.chosen(order[np.argsort(-scores[order], kind="stable")])
