"""The COCO evaluation of results that were kept: of their boxes, or of their masks."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from hotcoco import COCO, COCOeval

from tasks.detection.matches import Matches
from tasks.detection.run_lengths import split
from tasks.image_results import ImageResults


@dataclass(frozen=True, slots=True, eq=False)
class KeptEvaluation:
    """What results come to.

    Attributes:
        coco: evaluated, with COCO's own parameters: what the logged metrics are of.
        matches: in it.
    """

    coco: COCOeval
    matches: Matches


@lru_cache(maxsize=4)  # a report asks for the same again and again
def evaluation_of(results: ImageResults, kind: Literal["bbox", "segm"]) -> KeptEvaluation:
    """The evaluation of boxes or of masks."""
    arrays = results.arrays
    images = [
        {"id": image, "height": height, "width": width}
        for image, (height, width) in zip(arrays["image_ids"].tolist(), arrays["sizes"].tolist(), strict=True)
    ]
    sizes = {image["id"]: [image["height"], image["width"]] for image in images}
    annotations: list[dict[str, Any]] = [
        {"id": row, "image_id": int(image), "category_id": int(label), "bbox": box, "area": area, "iscrowd": int(crowd)}
        for row, (image, *box, label, area, crowd) in enumerate(arrays["truth"].tolist(), 1)
    ]
    categories = [{"id": raw, "name": name} for raw, name in zip(results.labels.ids, results.labels.names, strict=True)]
    found: Any = np.ascontiguousarray(arrays["found"])
    if kind == "segm":
        crowd = arrays["truth_crowd"].tolist()
        for annotation, counts, own in zip(annotations, split(arrays["truth_masks"]), crowd, strict=True):
            annotation["segmentation"] = {"size": sizes[annotation["image_id"]], "counts": counts}
            annotation["iscrowd"] = int(own)
        found = [
            {
                "image_id": int(image),
                "category_id": int(label),
                "segmentation": {"size": sizes[int(image)], "counts": counts},
                "score": score,
            }
            for (image, *_, score, label), counts in zip(found.tolist(), split(arrays["found_masks"]), strict=True)
        ]
    truth = COCO({"info": {}, "images": images, "annotations": annotations, "categories": categories})
    evaluation = COCOeval(truth, truth.load_res(found), kind)
    evaluation.evaluate()
    return KeptEvaluation(evaluation, Matches.of(evaluation, arrays["image_ids"].tolist()))
