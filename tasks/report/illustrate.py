"""Pictures of images of the data: what is annotated, what is predicted, and what speaks for it."""

import base64
from dataclasses import replace

import cv2
import torch
from accelerate.accelerator import Accelerator

from backbones.errors import UserError
from tasks.checkpoint import Checkpoint
from tasks.checkpoint_fit import require_same_labels
from tasks.config import Experiment
from tasks.data.sample import Batch
from tasks.drawing import Image
from tasks.drawing import Picture as Drawing
from tasks.explanation.explainer import Explainer
from tasks.explanation.explaining import NAMES, default_method, explained, heat_in_image
from tasks.explanation.subject import Question
from tasks.kinds import task_of
from tasks.predicting import batch_of, load_predictor
from tasks.report.blocks import Example, Picture
from tasks.report.sample_drawing import LETTERS
from tasks.sources import open_sources, source_labels

LONGEST = 560  # pixels of the long side of a picture
LONGEST_LABELLED = 300  # where nothing is drawn in the image
QUALITY = 82  # of JPEG
SHOWN_FROM = 0.5  # score of boxes


class Illustrator:
    """Draws images of the validation split of a run with its best checkpoint.

    Args:
        checkpoint: of the model.
        config: of the run, with the data where they lie now.
        accelerator: device and precision.

    Raises:
        UserError: the data are not there, or not those of the checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, config: Experiment, accelerator: Accelerator) -> None:
        self.config, self.accelerator, self.labels = config, accelerator, checkpoint.labels
        self._sources, _ = open_sources(config)
        require_same_labels(checkpoint, source_labels(self._sources))
        self._predictor, self._divisor = load_predictor([checkpoint], accelerator)
        self._explainers: dict[str, Explainer | str] = {}

    def example(self, name: str, image: str, title: str, note: str) -> Example:
        """An image, annotated, predicted and explained by one head.

        Args:
            name: of the head's results.
            image: its name in the results.
            title: of the example.
            note: below the title.

        Raises:
            UserError: it is not in the data, or cannot be read.
        """
        head, _, named = name.partition("@")
        source = next(own for own in self._sources if head in own.experiment.heads and named in ("", own.name))
        data, config = source.val, source.experiment
        row = next((row for row in range(len(data)) if data.title(row) == image), None)
        if row is None:
            raise UserError(f"{image}: not in the data under {data.root}; expected the data of the run")
        task, labels = task_of(config.heads[head]), self.labels[head]
        pixels = data.image(row, config.image, config.data.exif)
        batch = batch_of([pixels], config.data, self._divisor).to(self.accelerator.device)
        # Not inference_mode, whose tensors cannot take part in what is differentiated.
        with torch.no_grad(), self.accelerator.autocast():
            (prediction,) = self._predictor(batch)[head]
        drawing = Drawing.of(pixels, config.image, LETTERS)
        if task.reads == "labels":  # of the whole image, which the note tells
            longest, pictures = LONGEST_LABELLED, [embedded(drawing.pixels, title, "", LONGEST_LABELLED)]
        else:
            longest, truth, found = LONGEST, drawing.copy(), drawing.copy()
            task.draw_truth(truth, data, row, labels)
            task.draw(found, prediction, labels, SHOWN_FROM)
            pictures = [
                embedded(truth.pixels, f"{title} with its annotations", "annotated"),
                embedded(found.pixels, f"{title} with what was predicted", "predicted"),
            ]
        explainer = self._explainer(head)
        if isinstance(explainer, Explainer):
            subjects = task.subjects(prediction, batch.sizes, labels, Question(None, 1, SHOWN_FROM, None))
            if subjects:
                with torch.enable_grad():
                    maps = explainer(batch, prediction, subjects)
                if _finest(explainer, batch) == [1, 1]:  # it has no place, and its map is of one colour
                    return Example(title, pictures, note)
                size = pixels.shape[0], pixels.shape[1]
                heat = heat_in_image(maps[0], explainer.method, size, config.data)
                what, drawn = explained(drawing, subjects[0], heat)
                caption = f"{NAMES[explainer.method]} of {what}, from {_cells(explainer, batch)}"
                told = f"{title} with a heat map: {caption}"
                pictures.append(replace(embedded(drawn.pixels, told, caption, longest), heat=True))
        return Example(title, pictures, note)

    def _explainer(self, head: str) -> Explainer | str:
        """An explainer, or why there is none."""
        if head not in self._explainers:
            try:
                method = default_method(task_of(self.config.heads[head]))
                self._explainers[head] = Explainer(self._predictor.models[0], head, method)
            except UserError as error:  # a head of somebody else's that cannot be explained
                self._explainers[head] = str(error)
        return self._explainers[head]


def _cells(explainer: Explainer, batch: Batch) -> str:
    """The feature maps that a heat map is of: where their cells are few, it is no more than a hint."""
    levels = " to ".join(dict.fromkeys((explainer.levels[0], explainer.levels[-1])))
    return f"{levels}, {' x '.join(map(str, _finest(explainer, batch)))} cells"


def _finest(explainer: Explainer, batch: Batch) -> list[int]:
    """Rows and columns of the largest of the feature maps."""
    finest = min(explainer.model.backbone.features[level].stride for level in explainer.levels)
    return [-(-side // finest) for side in batch.sizes.padded]


def embedded(pixels: Image, told: str, caption: str = "", longest: int = LONGEST) -> Picture:
    """An image (H, W, 3) as a part of the page, no larger than `longest`."""
    height, width = pixels.shape[:2]
    shrink = min(1.0, longest / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    shown = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if shrink < 1 else pixels
    _, coded = cv2.imencode(".jpg", shown[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    source = "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode("ascii")
    return Picture(source, *size, told, caption)
