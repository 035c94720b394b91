"""Pictures of images of the data: what is annotated, what is predicted, and what speaks for it."""

import base64

import cv2
import torch
from accelerate.accelerator import Accelerator

from backbones.errors import UserError
from tasks.checkpoint import Checkpoint, require_same_labels
from tasks.config import Experiment
from tasks.data.sample import Batch
from tasks.data.splits import open_splits
from tasks.drawing import Image
from tasks.drawing import Picture as Drawing
from tasks.explanation.explainer import Explainer
from tasks.explanation.explaining import NAMES, default_method, explained, heat_in_image
from tasks.explanation.subject import Question
from tasks.kinds import head_labels, task_of, wanted_targets
from tasks.predicting import batch_of, load_predictor
from tasks.report.blocks import Example, Picture

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
        _, self.data, _ = open_splits(config.data, config.runner.seed, wanted_targets(config))
        require_same_labels(checkpoint, head_labels(config, self.data))
        self._predictor, self._divisor = load_predictor([checkpoint], accelerator)
        self._rows = {self.data.title(row): row for row in range(len(self.data))}
        self._explainers: dict[str, Explainer | str] = {}

    def example(self, head: str, image: str, title: str, note: str) -> Example:
        """An image, annotated, predicted and explained by one head.

        Args:
            head: name of the head.
            image: its name in the results.
            title: of the example.
            note: below the title.

        Raises:
            UserError: it is not in the data, or cannot be read.
        """
        if image not in self._rows:
            raise UserError(f"{image}: not in the data under {self.data.root}; expected the data of the run")
        row, task, labels = self._rows[image], task_of(self.config.heads[head]), self.labels[head]
        pixels = self.data.image(row, self.config.image, self.config.data.exif)
        batch = batch_of([pixels], self.config.data, self._divisor).to(self.accelerator.device)
        # Not inference_mode, whose tensors cannot take part in what is differentiated.
        with torch.no_grad(), self.accelerator.autocast():
            (prediction,) = self._predictor(batch)[head]
        drawing = Drawing.of(pixels, self.config.image)
        if task.reads == "labels":  # of the whole image, which the note tells
            longest, pictures = LONGEST_LABELLED, [embedded(drawing.pixels, title, "", LONGEST_LABELLED)]
        else:
            longest, truth, found = LONGEST, drawing.copy(), drawing.copy()
            task.draw_truth(truth, self.data, row, labels)
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
                size = pixels.shape[0], pixels.shape[1]
                heat = heat_in_image(maps[0], explainer.method, size, self.config.data)
                what, drawn = explained(drawing, subjects[0], heat)
                caption = f"{NAMES[explainer.method]} of {what}, from {_cells(explainer, batch)}"
                pictures.append(embedded(drawn.pixels, f"{title} with a heat map: {caption}", caption, longest))
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
    strides = {level: explainer.model.backbone.features[level].stride for level in explainer.levels}
    finest = min(strides.values())
    cells = " x ".join(str(-(-side // finest)) for side in batch.sizes.padded)
    return f"{' to '.join(dict.fromkeys((next(iter(strides)), list(strides)[-1])))}, {cells} cells"


def embedded(pixels: Image, told: str, caption: str = "", longest: int = LONGEST) -> Picture:
    """An image (H, W, 3) as a part of the page, no larger than `longest`."""
    height, width = pixels.shape[:2]
    shrink = min(1.0, longest / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    shown = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if shrink < 1 else pixels
    _, coded = cv2.imencode(".jpg", shown[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    source = "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode("ascii")
    return Picture(source, *size, told, caption)
