"""Runs a trained model on images that need no annotations."""

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from backbones.errors import UserError
from tasks.checkpoint import load_checkpoint, load_weights_strictly
from tasks.config import RunnerConfig
from tasks.data.augment import Annotated, resize, resized_size
from tasks.data.batches import collate
from tasks.data.image_file import read_image
from tasks.data.sample import Sample
from tasks.detection.coco_metric import coco_results, detection_rows
from tasks.detection.draw import draw_detections, save_picture, viewable
from tasks.device import build_accelerator
from tasks.model import build_model
from tasks.progress import Reporter

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm"}


def predict_images(run: Path, images: Sequence[str], out: Path, threshold: float, device: str) -> None:
    """Write `out/predictions.json` (COCO results, with the file name of each) and `out/<image>.jpg` with boxes drawn.

    An image that cannot be read is named and left out; the others are still done.

    Args:
        run: a run folder (its best checkpoint) or a checkpoint.
        images: files, folders or glob patterns.
        out: folder to write to.
        threshold: boxes that score less are not drawn; the json holds all.
        device: as in the runner's config.

    Raises:
        UserError: the checkpoint cannot be used, or there is no image at all.
    """
    files = find_images(images)
    checkpoint = load_checkpoint(run, prefer_best=True)
    config = checkpoint.config
    # As the run was evaluated; but fp16 is a choice for training on CUDA.
    precision = "auto" if config.runner.precision == "fp16" else config.runner.precision
    accelerator = build_accelerator(RunnerConfig.model_validate({"device": device, "precision": precision}))
    model = build_model(config, checkpoint.labels)
    load_weights_strictly(model, checkpoint.weights(), checkpoint.folder)
    model.to(accelerator.device).eval()
    reporter = Reporter()
    out.mkdir(parents=True, exist_ok=True)
    results, unreadable = [], []
    for image_id, file in enumerate(reporter.track(files, len(files), "predict, images"), start=1):
        try:
            image = read_image(file, config.image)
        except UserError as error:
            unreadable.append(str(error))
            continue
        batch = collate(
            [_sample(image, image_id, file, config.data.short_side[-1], config.data.long_side)], model.divisor
        )
        with torch.inference_mode(), accelerator.autocast():
            found = model.predict(batch.to(accelerator.device))
        picture = viewable(image, config.image.low, config.image.white)
        for head, (detections,) in found.items():
            rows = detection_rows([image_id], [detections], checkpoint.labels[head])
            results += [{**result, "file_name": str(file)} for result in coco_results(rows)]
            picture = draw_detections(picture, detections, checkpoint.labels[head], threshold)
        save_picture(out / f"{file.stem}_{image_id:05d}.jpg", picture)
    (out / "predictions.json").write_text(json.dumps(results), encoding="utf-8")
    for line in unreadable:
        reporter.say(f"left out: {line}")
    if len(unreadable) == len(files):
        raise UserError(f"none of the {len(files)} images could be read")
    done = len(files) - len(unreadable)
    reporter.say(f"{len(results)} boxes in {done} images: {out / 'predictions.json'}, drawn images beside it")


def find_images(patterns: Sequence[str]) -> list[Path]:
    """Image files that the arguments mean, each once, sorted within a folder or pattern.

    Raises:
        UserError: an argument is neither a file, a folder with images, nor a pattern that matches one.
    """
    files: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            found = [file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES]
        elif path.is_file():
            found = [path]
        else:
            found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if Path(name).is_file()]
        if not found:
            raise UserError(f"{pattern}: no image there; expected an image, a folder of images or a glob pattern")
        files |= dict.fromkeys(found)
    return list(files)


def _sample(image: npt.NDArray[Any], image_id: int, file: Path, short_side: int, long_side: int) -> Sample:
    boxes, none = np.zeros((0, 4)), np.zeros(0, np.int64)
    item = Annotated(image, boxes, none)
    size = image.shape[0], image.shape[1]
    resize(item, resized_size(size, short_side, long_side))
    return Sample(item.image, image_id, str(file), 0, size, boxes.astype(np.float32), none, none.astype(np.bool_))
