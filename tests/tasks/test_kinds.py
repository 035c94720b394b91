"""Which targets the heads of an experiment ask for."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones import FeatureSpec
from heads import Detections, Head, ImageSizes, Prediction, Targets
from heads import heads as registry
from tasks.config import CascadeRCNNConfig, Experiment, FasterRCNNConfig, HeadConfig, MaskRCNNConfig, PluginHeadConfig
from tasks.detection.instance_task import InstanceTask
from tasks.detection.task import DetectionTask
from tasks.kinds import task_of, wanted_targets


class Outliner(Head):
    """Somebody else's head that reads outlines."""

    reads = "boxes"
    reads_outlines = True

    def __init__(self, features: Mapping[str, FeatureSpec], num_classes: int) -> None:
        super().__init__()

    def loss(self, features: dict[str, Tensor], images: ImageSizes, targets: Targets) -> dict[str, Tensor]:
        assert targets.boxes is not None
        assert targets.boxes.outlines is not None
        return {"loss": targets.boxes.outlines.known.sum().float()}

    def predict(self, features: dict[str, Tensor], images: ImageSizes) -> list[Prediction]:
        none = torch.zeros(0)
        sizes = images.original.tolist()
        return [Detections(none.view(0, 4), none, none.long(), none.view(0, 7, 7), (h, w)) for h, w in sizes]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._factories, "outliner", Outliner)


@pytest.mark.parametrize(
    ("heads", "outlines"),
    [
        ([FasterRCNNConfig()], False),
        ([CascadeRCNNConfig()], False),
        ([MaskRCNNConfig()], True),
        ([PluginHeadConfig(name="outliner")], True),
        ([FasterRCNNConfig(), MaskRCNNConfig(), CascadeRCNNConfig()], True),
    ],
)
def test_only_those_that_need_outlines_pay_for_them(heads: list[HeadConfig], outlines: bool) -> None:
    wanted = wanted_targets(Experiment(heads={str(number): head for number, head in enumerate(heads)}))
    assert (wanted.boxes, wanted.outlines) == (True, outlines)
    asking = any(task_of(head) is InstanceTask for head in heads)
    assert asking == outlines
    assert {task_of(head) for head in heads} <= {InstanceTask, DetectionTask}


def test_a_foreign_head_gets_outlines(command: Any, tiny_instances: Experiment, written: Any, tmp_path: Any) -> None:
    tiny_instances.heads = {"mine": PluginHeadConfig(name="outliner"), "boxes": FasterRCNNConfig(roi_samples=8)}
    said = command("train", written(tiny_instances), "--out", tmp_path / "run")
    assert said.code == 0, said.error
    assert "mine/segm AP" in (tmp_path / "run" / "metrics.jsonl").read_text()
