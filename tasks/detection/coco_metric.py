"""The 12 COCO numbers and AP by class, of boxes and of masks.

Computed by hotcoco, whose results are those of pycocotools bit for bit (a test compares them over crowds, areas and
detection limits) in a hundredth of the time. Definitions: Lin et al., "Microsoft COCO", and cocodataset.org.
"""

import contextlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from hotcoco import COCO, COCOeval

from backbones.errors import UserError
from heads.contract import Detections
from tasks.data.files.limits import read_bounded
from tasks.label_map import LabelMap

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
Rows = npt.NDArray[np.float64]


def detection_rows(image_ids: Iterable[int], detections: Iterable[Detections], labels: LabelMap) -> Rows:
    """(N, 7) of image id, x, y, width, height, score, raw category id."""
    raw_ids = np.asarray(labels.ids, np.float64)
    rows = [np.empty((0, 7))]
    for image_id, found in zip(image_ids, detections, strict=True):
        boxes = found.boxes.cpu().double().numpy()
        rows.append(
            np.column_stack(
                [
                    np.full(len(boxes), image_id, np.float64),
                    boxes[:, :2],
                    boxes[:, 2:] - boxes[:, :2],
                    found.scores.cpu().double().numpy(),
                    raw_ids[found.labels.cpu().numpy()],
                ]
            )
        )
    return np.concatenate(rows)


def score_detections(truth: COCO | dict[str, Any], rows: Rows) -> dict[str, float]:
    """The 12 numbers and `AP/<class>` of box detections.

    Args:
        truth: COCO ground truth: a dict of images, annotations and categories, or hotcoco's object of one.
        rows: from `detection_rows`.

    Returns:
        Metric by name, 0 .. 1; -1 where the ground truth has nothing to find, as in pycocotools.
    """
    truth = COCO(truth) if isinstance(truth, dict) else truth
    return _score(truth, truth.load_res(rows), "bbox")


def score_instances(
    truth: COCO | dict[str, Any],
    rows: Iterable[list[float]],
    counts: Iterable[str],
    sizes: Mapping[int, tuple[int, int]],
) -> dict[str, float]:
    """The same numbers of masks. How large a detection is, is the area of its mask.

    Args:
        truth: COCO ground truth in which every annotation has a segmentation.
        rows: those of `detection_rows`, as lists.
        counts: of each row, run lengths of its mask.
        sizes: (height, width) of each image, by its id.
    """
    truth = COCO(truth) if isinstance(truth, dict) else truth
    # Without `bbox`, from which the metric would take the area.
    results = [
        {
            "image_id": int(row[0]),
            "category_id": int(row[6]),
            "segmentation": {"size": list(sizes[int(row[0])]), "counts": own},
            "score": row[5],
        }
        for row, own in zip(rows, counts, strict=True)
    ]
    return _score(truth, truth.load_res(results), "segm")


def score_results_file(annotations: Path, results: Path, kind: Literal["bbox", "segm"]) -> dict[str, float]:
    """The same for a COCO results file.

    Raises:
        UserError: a file is missing, is not COCO json, or names images that the annotations do not have.
    """
    truth_json, result_json = (
        _read_json(annotations, dict, "COCO annotations"),
        _read_json(results, list, "COCO results"),
    )
    needed = "bbox" if kind == "bbox" else "segmentation"
    for index, row in enumerate(result_json):
        lacks = [
            key for key in ("image_id", "category_id", "score", needed) if not isinstance(row, dict) or key not in row
        ]
        if lacks:
            raise UserError(f"{results}: result {index} lacks {', '.join(lacks)}; expected COCO {kind} results")
    known = {image["id"] for image in truth_json["images"]}
    strangers = {row["image_id"] for row in result_json} - known
    if strangers:
        raise UserError(f"{results}: image id {min(strangers)} ({len(strangers)} such) is not in {annotations}")
    truth = COCO(truth_json)
    return _score(truth, truth.load_res(result_json), kind)


def _score(truth: COCO, found: COCO, kind: str) -> dict[str, float]:
    evaluation = COCOeval(truth, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    named = dict(zip(METRICS, map(float, evaluation.stats), strict=True))
    # Precision is (IoU thresholds, recall points, classes, areas, detection limits); all areas, 100 detections.
    accumulated: dict[str, Any] = evaluation.eval or {}
    precision = np.asarray(accumulated["precision"])[:, :, :, 0, -1]
    names = {category["id"]: category["name"] for category in truth.load_cats(truth.get_cat_ids())}
    for index, raw_id in enumerate(evaluation.params.cat_ids):
        values = precision[:, :, index]
        values = values[values > -1]
        named[f"AP/{names[raw_id]}"] = float(values.mean()) if values.size else -1.0
    return named


def _read_json(path: Path, expected: type[dict[str, Any]] | type[list[Any]], what: str) -> Any:
    try:
        content = json.loads(read_bounded(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected {what} as json") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not json ({error}); expected {what}") from None
    if not isinstance(content, expected):
        raise UserError(f"{path}: holds a json {type(content).__name__}; expected {what}, a {expected.__name__}")
    needed = ("images", "annotations", "categories") if expected is dict else ()
    lacks = [key for key in needed if key not in content]
    if lacks:
        raise UserError(f"{path}: has no {', '.join(lacks)}; expected {what}")
    return content
