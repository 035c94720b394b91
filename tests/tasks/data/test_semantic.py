"""Semantic masks from outlines: the pixels that pycocotools gives the objects."""

from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from tasks.data.formats.coco import CocoFolder
from tasks.data.semantic import semantic_masks


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, not ours
@pytest.mark.parametrize(("folder", "split", "count"), [("nuclei", "val", 12), ("coco", "val2017", 20)])
def test_equal_to_pycocotools(reference_data: Path, folder: str, split: str, count: int) -> None:
    root = reference_data / folder
    annotations = CocoFolder(root).read(split, masks=True)
    places = (root / f"instances_{split}.json", root / f"annotations/instances_{split}.json")
    truth = COCO(next(place for place in places if place.is_file()))
    classes = {raw: index for index, raw in enumerate(annotations.label_map.ids)}
    overlaps = 0
    for index in range(count):
        size = annotations.size(index)
        assert size is not None
        objects = truth.loadAnns(truth.getAnnIds(annotations.image_id(index)))
        masks = [(truth.annToMask(entry), classes[entry["category_id"]]) for entry in objects]
        planes = np.zeros((*size, len(classes)), np.uint8)
        painted = np.zeros(size, np.uint8)
        for mask, label in sorted(masks, key=lambda pair: -int(pair[0].sum())):
            planes[:, :, label] |= mask
            overlaps += int(((painted > 0) & (mask > 0)).sum())
            painted[mask > 0] = label + 1
        np.testing.assert_array_equal(semantic_masks(annotations, index, size, True), planes)
        np.testing.assert_array_equal(semantic_masks(annotations, index, size, False)[:, :, 0], painted)
    assert (overlaps > 0) == (folder == "coco")
