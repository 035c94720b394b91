"""Outlines of many objects in flat arrays: polygons as coordinates, run lengths as bytes; decoded when asked for."""

from array import array
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from hotcoco import mask as coco_mask
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Outlines of N objects. An object has polygons, run lengths, or neither.

    Attributes:
        points: (P,) float64, x y x y ... of all rings.
        ring_ends: (R + 1,) int64, where each ring begins and ends in `points`.
        rings: (N + 1,) int64, where the rings of each object begin and end.
        runs: uint8, COCO's compressed run lengths of all objects.
        run_ends: (N + 1,) int64, where those of each object begin and end.
    """

    points: Tensor
    ring_ends: Tensor
    rings: Tensor
    runs: Tensor
    run_ends: Tensor

    def decode(self, row: int, size: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
        """(H, W) uint8 of 0 and 1 of one object in an image of `size` (height, width); None if it has no outline."""
        outline = self.to_coco(row, size)
        if isinstance(outline, list):
            if not outline:
                return None
            outline = coco_mask.merge(coco_mask.frPyObjects(outline, *size))
        decoded: npt.NDArray[np.uint8] = coco_mask.decode(outline)
        return decoded

    def to_coco(self, row: int, size: tuple[int, int]) -> list[list[float]] | dict[str, Any]:
        """The outline as COCO writes it: a list of polygons, or `{"size": [height, width], "counts": ...}`."""
        start, end = self.run_ends[row : row + 2].tolist()
        if end > start:
            return {"size": list(size), "counts": bytes(self.runs[start:end].numpy()).decode("ascii")}
        first, last = self.rings[row : row + 2].tolist()
        ends = self.ring_ends[first : last + 1].tolist()
        return [self.points[a:b].tolist() for a, b in pairwise(ends)]

    def drawn(self, rows: slice) -> npt.NDArray[np.bool_]:
        """Whether each of these objects has an outline."""
        ends = slice(rows.start, rows.stop + 1)
        return np.asarray((np.diff(self.run_ends[ends].numpy()) > 0) | (np.diff(self.rings[ends].numpy()) > 0))

    def select(self, rows: npt.NDArray[np.int64]) -> "Segments":
        """The outlines of these objects, in this order."""
        rings, chosen = gather_ragged(self.rings.numpy(), rows)
        ring_ends, points = gather_ragged(self.ring_ends.numpy(), chosen)
        run_ends, runs = gather_ragged(self.run_ends.numpy(), rows)
        indices = torch.from_numpy(points), torch.from_numpy(runs)
        return Segments(
            self.points[indices[0]],
            torch.from_numpy(ring_ends),
            torch.from_numpy(rings),
            self.runs[indices[1]],
            torch.from_numpy(run_ends),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(getattr(self, f.name).nbytes for f in fields(self))


class SegmentsBuilder:
    """Collects outlines one object after another."""

    def __init__(self) -> None:
        self._points = array("d")
        self._ring_ends = array("q", [0])
        self._rings = array("q", [0])
        self._runs = bytearray()
        self._run_ends = array("q", [0])

    def add(self, outline: object, size: tuple[int, int] | None) -> str | None:
        """Append the outline of the next object, as COCO writes it; what cannot be used is left out.

        Args:
            outline: a list of polygons, a run-length dict, or anything else for none.
            size: (height, width) of the image, None if unknown.

        Returns:
            None, or what was wrong with the outline.
        """
        problem = None
        if isinstance(outline, dict):
            problem = self._add_runs(outline, size)
        elif isinstance(outline, list):
            problem = self._add_rings(outline)
        self._rings.append(len(self._ring_ends) - 1)
        self._run_ends.append(len(self._runs))
        return problem

    def build(self) -> Segments:
        """All outlines added so far."""

        def tensor(values: "array[Any] | bytearray", dtype: npt.DTypeLike) -> Tensor:
            return torch.from_numpy(np.frombuffer(values, dtype).copy())

        return Segments(
            tensor(self._points, np.float64),
            tensor(self._ring_ends, np.int64),
            tensor(self._rings, np.int64),
            tensor(self._runs, np.uint8),
            tensor(self._run_ends, np.int64),
        )

    def _add_rings(self, rings: list[object]) -> str | None:
        problem = None
        for ring in rings:
            if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
                problem = "polygons with fewer than 3 points or an odd number of coordinates"
                continue
            try:
                points = array("d", ring)
            except (TypeError, OverflowError):
                points = array("d", [float("nan")])
            if not np.isfinite(points).all():
                problem = "polygons with a coordinate that is not a number"
                continue
            self._points.extend(points)
            self._ring_ends.append(len(self._points))
        return problem

    def _add_runs(self, outline: dict[object, object], size: tuple[int, int] | None) -> str | None:
        height_width, counts = outline.get("size"), outline.get("counts")
        if not isinstance(height_width, list) or (size is not None and tuple(height_width) != size):
            return "run lengths whose size is not that of the image"
        try:
            height, width = (int(side) for side in height_width)
            if isinstance(counts, list):
                # pycocotools does not check the sum, and would decode into memory that is not the mask's.
                if min(counts, default=0) < 0 or sum(counts) != height * width:
                    return "run lengths that do not cover the image"
                self._runs += coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)[
                    "counts"
                ]
            elif isinstance(counts, str) and _covered(counts) == height * width:
                self._runs += counts.encode("ascii")
            else:
                return "run lengths that do not cover the image"
        except (TypeError, ValueError, OverflowError):
            return "run lengths that cannot be read"
        return None


def _covered(counts: str) -> int:
    """Pixels that compressed run lengths cover, -1 if they are malformed (COCO's maskApi, rleFrString)."""
    runs: list[int] = []
    value, shift = 0, 0
    for letter in counts.encode("ascii"):
        code = letter - 48
        if not 0 <= code < 64 or shift > 60:
            return -1
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            if len(runs) > 2:
                value += runs[-2]
            if value < 0:
                return -1
            runs.append(value)
            value, shift = 0, 0
    return sum(runs) if shift == 0 else -1


def gather_ragged(
    ends: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pick rows of a ragged array.

    Args:
        ends: (M + 1,) where each row begins and ends in the flat array.
        rows: (R,) rows to take, in this order.

    Returns:
        (R + 1,) ends of the new rows, and the flat indices of all their elements.
    """
    lengths = np.diff(ends)[rows]
    new_ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shift = np.repeat(ends[:-1][rows] - new_ends[:-1], lengths)
    return new_ends, np.arange(new_ends[-1], dtype=np.int64) + shift
