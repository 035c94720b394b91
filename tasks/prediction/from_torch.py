"""What heads predict, in tensors of any device, as numpy arrays."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from heads.contract import Detections, ImageLabels, Prediction, SemanticMasks
from tasks.prediction.found import Found
from tasks.prediction.found_boxes import FoundBoxes
from tasks.prediction.found_labels import FoundLabels
from tasks.prediction.found_masks import FoundMasks


def found_in(prediction: Prediction) -> Found:
    """The same as numpy arrays."""
    match prediction:
        case Detections():
            return boxes_in(prediction)
        case ImageLabels():
            return FoundLabels(_floats(prediction.scores), prediction.target)
        case _:
            return FoundMasks(prediction.masks.cpu().numpy())


def boxes_in(prediction: Detections) -> FoundBoxes:
    """The same as numpy arrays."""
    return FoundBoxes(
        _floats(prediction.boxes),
        _floats(prediction.scores),
        prediction.labels.cpu().numpy(),
        prediction.image_size,
        None if prediction.masks is None else _floats(prediction.masks),
    )


def _floats(tensor: Tensor) -> npt.NDArray[np.float32]:
    # numpy has no bfloat16, which a head may give under autocast.
    return tensor.float().cpu().numpy()


def prediction_of(found: Found) -> Prediction:
    """The inverse of `found_in`, on the CPU: what scorers take."""
    match found:
        case FoundBoxes():
            cells = None if found.cells is None else torch.from_numpy(found.cells)
            size = found.image_size if cells is not None else None
            boxes, scores, labels = map(torch.from_numpy, (found.boxes, found.scores, found.labels))
            return Detections(boxes, scores, labels, cells, size)
        case FoundLabels():
            return ImageLabels(torch.from_numpy(found.scores), found.target)
        case FoundMasks():
            return SemanticMasks(torch.from_numpy(found.planes))
    raise TypeError(f"{type(found).__name__} is no kind of prediction")
