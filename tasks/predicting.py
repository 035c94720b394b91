"""Runs a trained model, or the models of a cross-validation together, on images that need no annotations."""

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.accelerator import Accelerator

from backbones.errors import UserError
from tasks.checkpoint import Checkpoint, load_checkpoint, load_weights_strictly
from tasks.config import Experiment, InferenceConfig, RunnerConfig
from tasks.data.augmentation.augment import fit_for_evaluation
from tasks.data.augmentation.geometry import Annotated
from tasks.data.batches import collate
from tasks.data.files.image_file import Pixels, frame_count, is_image, read_image
from tasks.data.sample import Batch, Sample
from tasks.device import build_accelerator
from tasks.drawing import Picture, save_picture
from tasks.inference import Predictor
from tasks.kinds import task_of
from tasks.model import build_model
from tasks.output import writing
from tasks.progress import Reporter


@dataclass(frozen=True, slots=True)
class ImagePlace:
    """An image: a file, or one frame or slice of it.

    Attributes:
        file: the file.
        frame: which of its images.
        several: whether it holds more than one.
    """

    file: Path
    frame: int
    several: bool

    def stem(self, image_id: int) -> str:
        """Name, without its ending, of a file about it; unique in a folder."""
        return f"{self.file.name.split('.')[0]}_{image_id:05d}"

    def __str__(self) -> str:
        return f"{self.file}[{self.frame}]" if self.several else str(self.file)


def predict_images(
    run: Path, images: Sequence[str], out: Path, threshold: float, device: str, only: Sequence[str] = ()
) -> None:
    """Write `out/predictions.json` (with the file name of each) and each image with what was found drawn on it.

    Rows are COCO results for boxes, scores by class for labels, and the name of a mask file beside the json for masks.
    With several heads each row names its `head`.
    An image that cannot be read is named and left out; the others are still done.

    Args:
        run: a run folder (its best checkpoint), a checkpoint, or the folder of a cross-validation (all its folds).
        images: files, folders or glob patterns.
        out: folder to write to.
        threshold: boxes that score less are not drawn; the json holds all.
        device: as in the runner's config.
        only: heads to predict with; empty: all.

    Raises:
        UserError: the checkpoint cannot be used, or there is no image at all.
    """
    files = find_images(images)
    folds = fold_runs(run)
    # The folds' last checkpoints are those that the out-of-fold metrics are of.
    checkpoints = [load_checkpoint(folder, prefer_best=not folds).keep(only) for folder in folds or [run]]
    config, labels = checkpoints[0].config, checkpoints[0].labels
    accelerator = accelerator_for(config, device)
    predictor, divisor = load_predictor(checkpoints, accelerator)
    tasks = {name: task_of(head) for name, head in config.heads.items()}
    reporter = Reporter()
    if folds:
        reporter.say(f"{len(folds)} of the {config.data.folds} models of {run} together")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    done = 0
    for image_id, place, image in read_images(files, config, reporter, "predict, images"):
        with torch.inference_mode(), accelerator.autocast():
            found = predictor(batch_of_one(image, image_id, place, config, divisor).to(accelerator.device))
        stem = place.stem(image_id)
        picture = Picture.of(image, config.image)
        for head, (prediction,) in found.items():
            own, named = (f"{stem}_{head}", {"head": head}) if len(found) > 1 else (stem, {})
            with writing(out):
                rows = tasks[head].write(out, own, image_id, str(place), prediction, labels[head])
            results += [{**named, **row} for row in rows]
            tasks[head].draw(picture, prediction, labels[head], threshold)
        with writing(out):
            save_picture(out / f"{stem}.jpg", picture.pixels)
        done += 1
    with writing(out):
        (out / "predictions.json").write_text(json.dumps(results), encoding="utf-8")
    reporter.say(f"{len(results)} results of {done} images: {out / 'predictions.json'}, drawn images beside it")


def fold_runs(folder: Path) -> list[Path]:
    """The runs of a cross-validation, in order; none if the folder is something else."""
    if (folder / "checkpoints").exists():
        return []
    return sorted(folder.glob("fold_*"), key=lambda path: (len(path.name), path.name))  # fold_2 before fold_10


def accelerator_for(config: Experiment, device: str) -> Accelerator:
    """Device and precision to use a trained model with: those it was evaluated in."""
    # But fp16 is a choice for training on CUDA.
    precision = "auto" if config.runner.precision == "fp16" else config.runner.precision
    return build_accelerator(RunnerConfig.model_validate({"device": device, "precision": precision}))


def load_predictor(
    checkpoints: Sequence[Checkpoint], accelerator: Accelerator, inference: InferenceConfig | None = None
) -> tuple[Predictor, int]:
    """The models of some checkpoints together, and what their batches are padded to multiples of.

    Args:
        checkpoints: one a model.
        accelerator: the device.
        inference: how to predict; None is as the first checkpoint's config says.

    Raises:
        UserError: they have other classes or another input than the first, or a checkpoint is damaged.
    """
    first = checkpoints[0]
    models = []
    for checkpoint in checkpoints:
        if checkpoint.labels != first.labels or checkpoint.image != first.image:
            raise UserError(f"{checkpoint.folder}: its classes or images are not those of {first.folder}")
        model = build_model(checkpoint.config, checkpoint.labels)
        load_weights_strictly(model, checkpoint.weights(), checkpoint.folder)
        models.append(model.to(accelerator.device).to(memory_format=torch.channels_last))
    return Predictor(models, inference or first.config.inference), models[0].divisor


def find_images(patterns: Sequence[str]) -> list[Path]:
    """Image files that the arguments mean, each once, sorted within a folder or pattern.

    Raises:
        UserError: an argument is neither a file, a folder with images, nor a pattern that matches one.
    """
    files: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            found = [file for file in sorted(path.iterdir()) if is_image(file)]
        elif path.is_file():
            found = [path]
        else:
            found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if Path(name).is_file()]
        if not found:
            raise UserError(f"{pattern}: no image there; expected an image, a folder of images or a glob pattern")
        files |= dict.fromkeys(found)
    return list(files)


def read_images(
    files: Sequence[Path], config: Experiment, reporter: Reporter, what: str
) -> Iterator[tuple[int, ImagePlace, Pixels]]:
    """Number, from 1, place and stored pixels of each image of some files, with a bar called `what`.

    One that cannot be read is left out, and told at the end.

    Raises:
        UserError: none could be read.
    """
    unreadable: list[str] = []
    done = 0
    places = list(_places(files, config, unreadable))
    for image_id, place in enumerate(reporter.track(places, len(places), what), start=1):
        try:
            image = read_image(
                place.file, config.image, exif=config.data.exif, frame=place.frame, axis=config.data.slice_axis
            )
        except UserError as error:
            unreadable.append(str(error))
            continue
        yield image_id, place, image
        done += 1
    for line in unreadable:
        reporter.say(f"left out: {line}")
    if not done:
        raise UserError(f"none of the {len(files)} files could be read")


def _places(files: Sequence[Path], config: Experiment, unreadable: list[str]) -> Iterator[ImagePlace]:
    for file in files:
        try:
            count = frame_count(file, config.data.slice_axis)
        except UserError as error:
            unreadable.append(str(error))
            continue
        for frame in range(count):
            yield ImagePlace(file, frame, count > 1)


def batch_of_one(image: Pixels, image_id: int, place: ImagePlace, config: Experiment, divisor: int) -> Batch:
    """An image as it is evaluated, padded to a multiple of `divisor`."""
    boxes, none = np.zeros((0, 4)), np.zeros(0, np.int64)
    item = Annotated(image, boxes, none)
    size = image.shape[0], image.shape[1]
    fit_for_evaluation(item, config.data)
    sample = Sample(item.image, image_id, str(place), 0, size, boxes.astype(np.float32), none, none.astype(np.bool_))
    return collate([sample], divisor)
