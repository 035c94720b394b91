"""What Apple's GPUs lack: they have no 64-bit floats, so predictions are widened only once they have left them."""

import pytest
import torch
from torch import Tensor

from heads import Detections, ImageLabels
from tasks.classification.task import ClassificationTask
from tasks.drawing import Picture
from tasks.label_map import LabelMap
from tasks.prediction.from_torch import found_in

LABELS = LabelMap(ids=(3, 7), names=("nodule", "cyst"))


class WithoutFloat64(Tensor):
    """A tensor as on Apple's GPUs, until it is moved to the CPU."""

    def double(self, *_: object) -> Tensor:  # type: ignore[override]
        raise TypeError("the MPS framework doesn't support float64")

    def cpu(self, *_: object) -> Tensor:  # type: ignore[override]
        return self.as_subclass(Tensor)


def there(values: list[float] | list[list[float]]) -> Tensor:
    return torch.tensor(values).as_subclass(WithoutFloat64)


def test_boxes() -> None:
    found = Detections(there([[1, 2, 5, 8]]), there([0.75]), torch.tensor([1]))
    (row,) = found_in(found).rows(LABELS)
    assert (row["bbox"], row["score"], row["category_id"]) == ([1, 2, 4, 6], 0.75, 7)


@pytest.mark.parametrize("target", ["single", "regression"])
def test_labels(target: str) -> None:
    found = ImageLabels(there([0.25, 0.75]), target)  # type: ignore[arg-type]
    (row,) = found_in(found).rows(LABELS)
    assert row["scores" if target == "single" else "values"] == {"nodule": 0.25, "cyst": 0.75}
    picture = Picture(torch.zeros(64, 64, 3, dtype=torch.uint8).numpy(), 1)
    ClassificationTask.draw(picture, found, LABELS, 0.5)
    assert picture.pixels.any()
