"""Which annotated boxes can be used, decided for all boxes of a split at once."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tasks.data.report import ReadReport

SLACK = 1.0  # pixels; annotation tools round, and COCO's own boxes reach out this far


def as_numbers(rows: Sequence[object]) -> npt.NDArray[np.float64]:
    """(N, 4) float64 from N lists of four numbers; NaN where a row is something else."""
    try:
        # Without a type, so that text stays text: a quoted number is a mistake in the file.
        array = np.array(rows)
        if array.dtype.kind in "iuf" and array.shape == (len(rows), 4):
            return array.astype(np.float64)
    except (ValueError, OverflowError):
        pass  # some row is not like the others
    boxes = np.full((len(rows), 4), np.nan)
    for box, row in zip(boxes, rows, strict=True):
        if isinstance(row, list | tuple) and len(row) == 4 and all(isinstance(v, int | float) for v in row):
            try:
                box[:] = row
            except OverflowError:
                box[:] = np.nan
    return boxes


def usable_boxes(
    boxes: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.int64],
    report: ReadReport,
    where: Callable[[int], str],
) -> npt.NDArray[np.bool_]:
    """Which boxes to keep; those that reach far outside their image are clipped in place.

    Args:
        boxes: (N, 4) x1 y1 x2 y2.
        sizes: (N, 2) height and width of the image of each box; 0 0 if unknown.
        report: gets a line for every box dropped or clipped.
        where: names box i for the report.

    Returns:
        (N,) bool.
    """
    finite = _all(np.isfinite(boxes))
    with np.errstate(invalid="ignore"):
        positive = _all(boxes[:, 2:] > boxes[:, :2])
        known = _all(sizes > 0)
        limits = np.where(known[:, None], sizes[:, [1, 0, 1, 0]], np.inf)
        clipped = np.clip(boxes, 0, limits)
        inside = _all(clipped[:, 2:] > clipped[:, :2]) | ~known
        far = ~_all(np.abs(clipped - boxes) <= SLACK) & known
    keep = finite & positive & inside
    for i in np.flatnonzero(~keep).tolist():
        shown = f"{where(i)} {_corners(boxes[i])}"
        if not finite[i]:
            report.drop("boxes that are not four finite numbers", where(i))
        elif not positive[i]:
            report.drop("boxes without area", shown)
        else:
            report.drop("boxes outside their image", shown)
    for i in np.flatnonzero(keep & far).tolist():
        report.mend("boxes clipped to their image", f"{where(i)} {_corners(boxes[i])}")
        boxes[i] = clipped[i]
    return keep


def _all(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(flags.all(axis=1))


def _corners(box: npt.NDArray[np.float64]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in box.tolist())})"
