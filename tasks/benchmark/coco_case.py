"""Generated ground truth and detections in the numbers and proportions of COCO's validation images."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from hotcoco import mask as coco_mask

from tasks.benchmark.evaluators import Case

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CLASSES = 80
BOXES = 7.2  # an image
CROWD = 0.012  # share of them
WIDTH, HEIGHT = 640, 480
COPIES = 6  # of a box among the detections at most, as a detector finds it several times


def write_boxes(folder: Path, images: int, detections: int = 100) -> Case:
    """Write a case of boxes.

    Args:
        folder: to write to.
        images: how many.
        detections: of each.
    """
    truth, rows = make_boxes(images, detections)
    files = folder / f"truth-{images}.json", folder / f"boxes-{images}.npy"
    files[0].write_text(json.dumps(truth), encoding="utf-8")
    np.save(files[1], rows)
    return Case(*files, "bbox", images, len(truth["annotations"]), len(rows))


def write_masks(folder: Path, images: int, detections: int = 20) -> Case:
    """Write a case of masks, ellipses in the boxes; arguments as for `write_boxes`."""
    truth, rows = make_boxes(images, detections)
    for annotation in truth["annotations"]:
        annotation["segmentation"], annotation["area"] = _ellipse(annotation["bbox"])
    results = [
        {"image_id": int(row[0]), "category_id": int(row[6]), "segmentation": _ellipse(row[1:5])[0], "score": row[5]}
        for row in rows.tolist()
    ]
    files = folder / f"mask-truth-{images}.json", folder / f"masks-{images}.json"
    for file, content in zip(files, (truth, results), strict=True):
        file.write_text(json.dumps(content), encoding="utf-8")
    return Case(*files, "segm", images, len(truth["annotations"]), len(results))


def make_boxes(images: int, detections: int) -> tuple[dict[str, Any], Floats]:
    """Annotations as COCO json has them, and (images * detections, 7) rows, the same ones each time.

    Boxes are unevenly spread over images and classes, their sides evenly over scales. A box is found up to `COPIES`
    times, more or less where it is, sometimes as another class, the better the more surely; all other detections are
    anywhere. The best of each image come first.
    """
    rng = np.random.default_rng(0)
    count = round(images * BOXES)
    crowded = rng.gamma(1.2, size=images)
    image = np.sort(rng.choice(images, count, p=crowded / crowded.sum()))
    label, box = _labels(rng, count), _boxes(rng, count)
    area = box[:, 2] * box[:, 3] * rng.uniform(0.4, 1, count)  # an outline covers less than its box
    crowd = rng.random(count) < CROWD
    annotations = [
        {
            "id": number + 1,
            "image_id": int(image[number]) + 1,
            "category_id": int(label[number]) + 1,
            "bbox": box[number].tolist(),
            "area": float(area[number]),
            "iscrowd": int(crowd[number]),
        }
        for number in range(count)
    ]
    truth = {
        "images": [{"id": n + 1, "width": WIDTH, "height": HEIGHT, "file_name": f"{n + 1}.jpg"} for n in range(images)],
        "annotations": annotations,
        "categories": [{"id": n + 1, "name": f"class {n + 1}"} for n in range(CLASSES)],
    }

    found = np.repeat(np.arange(count), rng.integers(0, COPIES + 1, count))
    shift = rng.gamma(1.0, 0.08, len(found))
    moved = box[found] + rng.normal(size=(len(found), 4)) * shift[:, None] * np.tile(box[found, 2:], 2)
    moved[:, 2:] = moved[:, 2:].clip(min=1)
    other = rng.random(len(found)) < 0.1
    found_label = np.where(other, _labels(rng, len(found)), label[found])
    sure = (1 - 3 * shift + rng.normal(0, 0.15, len(found))).clip(0.05, 0.999) * rng.uniform(0.95, 1, len(found))
    strays = images * detections
    rows = np.column_stack(
        [
            np.concatenate((image[found], np.repeat(np.arange(images), detections))) + 1.0,
            np.concatenate((moved, _boxes(rng, strays))).round(2),
            np.concatenate((sure, rng.beta(1, 8, strays))),
            np.concatenate((found_label, _labels(rng, strays))) + 1.0,
        ]
    )
    rows = rows[np.lexsort((-rows[:, 5], rows[:, 0]))]
    rank = np.arange(len(rows)) - np.searchsorted(rows[:, 0], rows[:, 0])
    return truth, rows[rank < detections]


def _labels(rng: np.random.Generator, count: int) -> Integers:
    share = 1 / (np.arange(CLASSES) + 1.0)  # the most frequent class has a fifth of all, as people in COCO
    return rng.choice(CLASSES, count, p=share / share.sum())


def _boxes(rng: np.random.Generator, count: int) -> Floats:
    side = np.exp(rng.uniform(np.log(8), np.log(400), (count, 1))) * np.exp(rng.normal(0, 0.3, (count, 2)))
    side = np.minimum(side, (WIDTH, HEIGHT))
    corner = rng.random((count, 2)) * ((WIDTH, HEIGHT) - side)
    return np.concatenate((corner, side), axis=1).round(2)


def _ellipse(box: Any) -> tuple[dict[str, Any], float]:
    """Run lengths and area of the ellipse in a box x, y, width, height."""
    x, y, width, height = box
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    centre = round(x + width / 2), round(y + height / 2)
    axes = max(round(width / 2), 1), max(round(height / 2), 1)
    cv2.ellipse(picture, centre, axes, 0, 0, 360, 1, -1)
    encoded = coco_mask.encode(np.asfortranarray(picture))
    counts = encoded["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [HEIGHT, WIDTH], "counts": text}, float(picture.sum())
