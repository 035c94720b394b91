"""Scores boxes: the COCO metric, and FROC when the config names rates for it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from hotcoco import COCO

from heads.contract import Detections, Prediction
from tasks.config import Experiment
from tasks.data.annotations import Annotations
from tasks.detection.coco_metric import METRICS, Rows, detection_rows, score_detections
from tasks.detection.froc import FrocCurve, froc_curve
from tasks.image_results import Arrays, Kind
from tasks.label_map import LabelMap
from tasks.task import Scorer


class DetectionScorer(Scorer):
    """The 12 COCO numbers, AP by class, and sensitivities at the rates of false positives that the config names."""

    kind: ClassVar[Kind] = "boxes"

    def __init__(self, head: str, config: Experiment, annotations: Annotations, labels: LabelMap) -> None:
        super().__init__(head, config, annotations, labels)
        self.found: list[Rows] = []
        self.curve: FrocCurve | None = None
        self.scored: Rows = np.empty((0, 7))

    @property
    def main_metric(self) -> str:
        """AP over IoU 0.5 to 0.95."""
        return "AP"

    @property
    def headline(self) -> tuple[str, ...]:
        """AP and its value at two IoUs."""
        return METRICS[:3]

    @property
    def rates(self) -> dict[str, float]:
        """False positives an image, by the name of the metric that is the sensitivity there."""
        return {f"sensitivity@{rate:g}FP": rate for rate in self.config.metrics.froc_rates}

    def names(self) -> list[str]:
        """The 12 COCO numbers, those of FROC if any, and AP by class."""
        froc = ["FROC", *self.rates] if self.rates else []
        return [*METRICS, *froc, *(f"AP/{name}" for name in self.labels.names)]

    def reset(self) -> None:
        """Forget all detections."""
        self.found = []

    def add(self, index: int, prediction: Prediction) -> None:
        """Take the detections of image `index`."""
        assert isinstance(prediction, Detections)
        self.found.append(detection_rows([self.annotations.image_id(index)], [prediction], self.labels))

    def collected(self) -> Rows:
        """(N, 7) as from `detection_rows`."""
        return np.concatenate([np.empty((0, 7)), *self.found])

    def metrics(self, collected: Sequence[Rows]) -> dict[str, float]:
        """The COCO numbers, and those of FROC with their mean as "FROC"."""
        rows = self.scored = np.concatenate([np.empty((0, 7)), *collected])
        scores = score_detections(self._truth, rows)
        if self.rates:
            self.curve = froc_curve(self.annotations, rows, self.labels, self.config.metrics.froc_iou)
            named = {name: self.curve.sensitivity_at(rate) for name, rate in self.rates.items()}
            scores |= {**named, "FROC": float(np.mean(list(named.values())))}
        return {name: scores[name] for name in self.names()}

    def arrays(self) -> Arrays:
        """`image_ids` (I,), `sizes` (I, 2); `found` (N, 7) as from `detection_rows`; `truth` (M, 8) of image id, x, y,
        width, height, raw category id, area and whether it is a crowd.
        """
        data = self.annotations
        owner = np.repeat(data.image_ids.numpy(), np.diff(data.offsets.numpy()))
        corners = data.boxes.numpy()
        columns = (owner, corners[:, :2], corners[:, 2:] - corners[:, :2], np.asarray(data.label_map.ids)[data.labels])
        truth = np.column_stack([*columns, data.areas.numpy(), data.crowd.numpy()]).astype(np.float64)
        return {
            "image_ids": data.image_ids.numpy(),
            "sizes": data.sizes.numpy(),
            "found": self.scored,
            "truth": truth,
        }

    def notes(self) -> list[str]:
        """What FROC counted."""
        return [] if self.curve is None else [f"FROC: {self.curve.describe()}"]

    def draw(self, folder: Path) -> None:
        """The FROC curve as `folder/<head>_froc.png`."""
        if self.curve is not None:
            self.curve.draw(folder / f"{self.head}_froc.png", list(self.rates.values()))

    @cached_property
    def _truth(self) -> COCO:
        # Outlines do not matter to boxes, and writing them out as COCO does takes time and memory.
        return COCO(replace(self.annotations, segments=None).to_coco())
