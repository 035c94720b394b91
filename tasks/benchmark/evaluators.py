"""Evaluators of the COCO metric, called alike; each is imported only in the process that it is measured in."""

import contextlib
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.benchmark.choice import OURS
from tasks.benchmark.process_memory import forget_peak, held_bytes, peak_bytes

PYCOCOTOOLS, FASTER = "pycocotools", "faster-coco-eval"
MODULES = {OURS: "hotcoco", PYCOCOTOOLS: "pycocotools", FASTER: "faster_coco_eval"}


@dataclass(frozen=True, slots=True)
class Case:
    """Files to score.

    Attributes:
        truth: COCO annotations json.
        results: of boxes, an npy file of (N, 7) image id, x, y, width, height, score, category id; of masks, COCO
            results json.
        kind: "bbox" or "segm".
        images: how many.
        boxes: annotated.
        detections: N.
    """

    truth: Path
    results: Path
    kind: str
    images: int
    boxes: int
    detections: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One run of an evaluator in a process of its own.

    Attributes:
        seconds: from annotations and detections in memory (of masks: in files) to the numbers.
        peak_bytes: the most that the process held.
        own_bytes: of those, what came on top of interpreter, libraries, annotations and detections.
        numbers: the 12.
    """

    seconds: float
    peak_bytes: int
    own_bytes: int
    numbers: tuple[float, ...]


def evaluate(name: str, case: Case, small: Case) -> Evaluated:
    """Score a case by one evaluator, which has warmed up on a small one."""
    score = {OURS: _ours, PYCOCOTOOLS: _pycocotools, FASTER: _faster_coco_eval}[name]
    score(*_given(small), small.kind)
    given = _given(case)
    forget_peak()
    before, start = held_bytes(), time.perf_counter()
    numbers = score(*given, case.kind)
    seconds = time.perf_counter() - start
    peak = peak_bytes()
    return Evaluated(seconds, peak, max(0, peak - before), tuple(map(float, numbers)))


def _given(case: Case) -> tuple[Any, Any]:
    """What evaluators start from: of boxes what a training run has in memory, of masks the files."""
    if case.kind == "segm":
        return case.truth, case.results
    import numpy as np

    return json.loads(case.truth.read_text(encoding="utf-8")), np.load(case.results)


def _ours(truth: Any, results: Any, kind: str) -> list[float]:
    from tasks.detection.coco_metric import METRICS, score_detections, score_results_file

    named = score_results_file(truth, results, "segm") if kind == "segm" else score_detections(truth, results)
    return [named[metric] for metric in METRICS]


def _pycocotools(truth: Any, results: Any, kind: str) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        if kind == "segm":
            coco, results = COCO(str(truth)), str(results)
        else:
            coco = COCO()
            coco.dataset = truth
            coco.createIndex()
        return _evaluated(COCOeval(coco, coco.loadRes(results), kind))


def _faster_coco_eval(truth: Any, results: Any, kind: str) -> list[float]:
    from faster_coco_eval import COCO, COCOeval_faster

    coco = COCO(str(truth) if kind == "segm" else truth)
    found = coco.loadRes(str(results) if kind == "segm" else results)
    return _evaluated(COCOeval_faster(coco, found, kind))


def _evaluated(evaluation: Any) -> list[float]:
    evaluation.evaluate()
    evaluation.accumulate()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    return list(evaluation.stats[:12])
