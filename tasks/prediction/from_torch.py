"""What heads predict, in tensors of any device, as numpy arrays."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from heads.contract import Detections, ImageLabels, Prediction
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
