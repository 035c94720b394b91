"""What the API answers with, as its schema documents it.

Boxes and run lengths are those of COCO's results: `bbox` is x, y, width and height in pixels of the upright image,
`segmentation` its compressed run lengths, column by column.
"""

import base64
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from hotcoco import mask as coco_mask
from pydantic import BaseModel, Field

from tasks.drawing import class_colour, viewable
from tasks.prediction.description import ModelDescription
from tasks.prediction.found import Found
from tasks.prediction.found_boxes import FoundBoxes
from tasks.prediction.found_labels import FoundLabels
from tasks.prediction.found_masks import FoundMasks
from tasks.prediction.image_predictions import ImagePredictions

LONGEST = 1600  # side of a picture for people
QUALITY = 90


class RunLengths(BaseModel):
    """A mask, as COCO packs it."""

    size: tuple[int, int] = Field(description="height and width, pixels")
    counts: str = Field(description="compressed run lengths; pycocotools.mask.decode reads them")


class BoxAnswer(BaseModel):
    """One object."""

    category_id: int = Field(description="id of the class in the data")
    label: str = Field(description="name of the class")
    bbox: tuple[float, float, float, float] = Field(description="x, y, width, height, pixels of the upright image")
    score: float = Field(description="0 to 1")
    segmentation: RunLengths | None = Field(None, description="from heads that find masks of objects")


class BoxesAnswer(BaseModel):
    """What a detector found, best first."""

    kind: Literal["boxes"] = "boxes"
    found: list[BoxAnswer]


class AreaAnswer(BaseModel):
    """The pixels of one class."""

    category_id: int
    label: str
    area: int = Field(description="pixels")
    segmentation: RunLengths


class MasksAnswer(BaseModel):
    """The classes of all pixels; those that are nowhere are left out."""

    kind: Literal["masks"] = "masks"
    found: list[AreaAnswer]


class LabelsAnswer(BaseModel):
    """Labels, grades or numbers of the image as a whole."""

    kind: Literal["labels"] = "labels"
    target: Literal["single", "multi", "ordinal", "regression"]
    scores: dict[str, float] | None = Field(None, description="probability by class, 0 to 1; not of a regression")
    label: str | None = Field(None, description="the class, where there is one")
    labels: list[str] | None = Field(None, description="the classes, where there may be several")
    values: dict[str, float] | None = Field(None, description="of a regression")


class Seconds(BaseModel):
    """Where the time went."""

    waiting: float = Field(description="until the model was free")
    reading: float = Field(description="the image file")
    predicting: float


class PredictionAnswer(BaseModel):
    """What was found in one image."""

    model: str = Field(description="name of the experiment")
    width: int = Field(description="of the upright image, pixels")
    height: int
    heads: dict[str, BoxesAnswer | MasksAnswer | LabelsAnswer]
    seconds: Seconds
    picture: str | None = Field(
        None, description=f"on request: the image as a JPEG in a data URL, its longer side at most {LONGEST} pixels"
    )


class ClassAnswer(BaseModel):
    """A class."""

    category_id: int
    label: str
    colour: str = Field(description="that it is drawn in, #rrggbb")


class HeadAnswer(BaseModel):
    """A head of the model."""

    kind: Literal["boxes", "labels", "masks"]
    target: str = Field(description="of labels and masks")
    instances: bool = Field(description="boxes come with masks")
    classes: list[ClassAnswer]


class LimitsAnswer(BaseModel):
    """What is refused."""

    bytes: int = Field(description="of an upload")
    pixels: int = Field(description="of an image")
    images_a_minute: int = Field(description="of each client; 0 is any number")
    waiting: int = Field(description="images that may wait")
    seconds: float = Field(description="of an upload, and then of a prediction")


class ModelAnswer(BaseModel):
    """What is served."""

    name: str
    version: str = Field(description="of Polyhead")
    channels: int = Field(description="of images: files of others are converted")
    bit_depth: int
    heads: dict[str, HeadAnswer]
    limits: LimitsAnswer


class HealthAnswer(BaseModel):
    """Whether the server works, and what it has done."""

    status: Literal["ok", "busy"] = Field(description="busy: the queue is full, images are refused for now")
    uptime: float = Field(description="seconds")
    waiting: int = Field(description="images in the queue, the one being looked at included")
    answered: int = Field(description="images")
    refused: int = Field(description="requests with a status of 4xx or 503")
    failed: int = Field(description="requests with a status of 500 or 504")


class ErrorAnswer(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="one line: what is wrong, what was expected, how to mend it")
    field: str = Field(description="what of the request it is about")


def found_answers(
    predictions: ImagePredictions, heads: Sequence[str], threshold: float
) -> dict[str, BoxesAnswer | MasksAnswer | LabelsAnswer]:
    """What `heads` found, of boxes those that score at least `threshold`."""
    return {name: _answer(predictions[name], predictions.model, name, threshold) for name in heads}


def _answer(
    found: Found, model: ModelDescription, head: str, threshold: float
) -> BoxesAnswer | MasksAnswer | LabelsAnswer:
    labels = model.heads[head].labels
    if isinstance(found, FoundBoxes):
        kept = found.chosen(found.scores >= threshold)
        names = [labels.names[label] for label in kept.labels.tolist()]
        return BoxesAnswer(
            found=[BoxAnswer(label=name, **row) for name, row in zip(names, kept.rows(labels), strict=True)]
        )
    if isinstance(found, FoundMasks):
        areas = []
        for label, (raw, name) in enumerate(zip(labels.ids, labels.names, strict=True)):
            inside = found.planes[label] if len(found.planes) > 1 else found.planes[0] == label + 1
            if area := int(np.count_nonzero(inside)):
                packed = coco_mask.encode(np.asfortranarray(inside, np.uint8))
                size = (inside.shape[0], inside.shape[1])
                lengths = RunLengths(size=size, counts=packed["counts"].decode("ascii"))
                areas.append(AreaAnswer(category_id=raw, label=name, area=area, segmentation=lengths))
        return MasksAnswer(found=areas)
    assert isinstance(found, FoundLabels)
    (row,) = found.rows(labels)
    return LabelsAnswer(target=found.target, **row)


def picture_of(predictions: ImagePredictions) -> str:
    """The image without anything drawn on it, as a data URL that every browser shows."""
    shown = viewable(predictions.image, predictions.model.image)
    scale = LONGEST / max(shown.shape[:2])
    if scale < 1:
        size = (max(round(shown.shape[1] * scale), 1), max(round(shown.shape[0] * scale), 1))
        shown = np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA), np.uint8)
    encoded = cv2.imencode(".jpg", shown[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def head_answers(model: ModelDescription) -> dict[str, HeadAnswer]:
    """The heads of a model."""
    return {
        name: HeadAnswer(
            kind=head.kind,
            target=head.target,
            instances=head.instances,
            classes=[
                ClassAnswer(category_id=raw, label=label, colour="#{:02x}{:02x}{:02x}".format(*class_colour(number)))
                for number, (raw, label) in enumerate(zip(head.labels.ids, head.labels.names, strict=True))
            ],
        )
        for name, head in model.heads.items()
    }
