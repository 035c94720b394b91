"""How far the contours of two masks lie apart: the 95th percentile Hausdorff distance and the surface Dice.

Huttenlocher et al., "Comparing images using the Hausdorff distance", 1993; Nikolov et al., "Deep learning to achieve
clinically applicable segmentation of head and neck anatomy for radiotherapy", 2018, section "Surface DSC". The contour
of a mask is its pixels that have one of their four neighbours outside of it or lie at the border of the image, as in
MONAI, whose numbers these are.
"""

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

Mask = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def surface_distances(first: Mask, second: Mask, spacing: tuple[float, float]) -> tuple[Floats, Floats]:
    """From every pixel of the contour of a mask to the nearest one of the other's contour, in both directions.

    Args:
        first: (H, W) of 0 and 1, not empty.
        second: likewise.
        spacing: from row to row and from column to column.
    """
    x, y, width, height = cv2.boundingRect(first | second)
    contours = [_contour(mask[y : y + height, x : x + width]) for mask in (first, second)]
    points = [np.argwhere(contour) * np.asarray(spacing) for contour in contours]
    if 8 * (len(points[0]) + len(points[1])) < contours[0].size:
        trees = [spatial.KDTree(p, balanced_tree=False, compact_nodes=False) for p in points]
        return trees[1].query(points[0])[0], trees[0].query(points[1])[0]
    # Ragged masks, such as noise, are mostly contour; then a map of the distance to it is quicker than a search.
    maps = [ndimage.distance_transform_edt(contour == 0, sampling=spacing) for contour in contours]
    return maps[1][contours[0] > 0], maps[0][contours[1] > 0]


def hausdorff_95(distances: tuple[Floats, Floats]) -> float:
    """The larger of the two directions' 95th percentiles, of `surface_distances`."""
    return max(float(np.percentile(directed, 95)) for directed in distances)


def surface_dice(distances: tuple[Floats, Floats], tolerance: float) -> float:
    """Share of both contours, of `surface_distances`, that lies within `tolerance` of the other."""
    # Rounding of the spacing must not decide about a contour that lies at the very tolerance.
    within = sum(int((directed <= tolerance * (1 + 1e-9)).sum()) for directed in distances)
    return within / (len(distances[0]) + len(distances[1]))


def _contour(mask: Mask) -> Mask:
    inside = cv2.erode(mask, CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    contour: Mask = mask & (1 - inside).astype(np.uint8)
    return contour
