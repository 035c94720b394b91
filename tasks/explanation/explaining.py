"""Explains what a trained model predicts of images: a sheet of heat maps for each."""

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from backbones.errors import UserError
from heads.contract import ImageSizes, Prediction
from tasks.checkpoint import load_checkpoint
from tasks.config import DataConfig, Experiment
from tasks.data.evaluated_size import evaluated_part
from tasks.drawing import Image, Picture, class_colour, save_picture
from tasks.explanation.arguments import ExplainArguments, Method
from tasks.explanation.explainer import Explainer
from tasks.explanation.sheet import Heat, draw_heat, draw_sheet
from tasks.explanation.subject import Question, Subject
from tasks.kinds import task_of
from tasks.label_map import LabelMap
from tasks.output import writing
from tasks.predicting import accelerator_for, batch_of, fold_runs, load_predictor
from tasks.prediction.image_places import ImageReader, find_images
from tasks.progress import Reporter
from tasks.task import Task

NAMES: Mapping[Method, str] = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "layercam": "LayerCAM",
    "hirescam": "HiResCAM",
    "scorecam": "Score-CAM",
    "integrated_gradients": "Integrated gradients",
}
# Of the pixels; some have gradients far above all others.
HIGHEST_PERCENTILE = 99.5


def explain_images(arguments: ExplainArguments) -> None:
    """Write a sheet for each image, `out/<image>_<number>.png`, or `..._<head>.png` where there are several heads.

    An image that cannot be read, or on which nothing was found, is named and left out.

    Raises:
        UserError: the checkpoint cannot be used, there is no image, or what is asked for is not there.
    """
    if not arguments.images:
        raise UserError("no images given after the run; give files, folders or glob patterns")
    files = find_images(arguments.images)
    if folds := fold_runs(arguments.run):
        raise UserError(
            f"{arguments.run} holds {len(folds)} models, each of which sees in its own way; give {folds[0]}"
        )
    checkpoint = load_checkpoint(arguments.run, prefer_best=True)
    config = checkpoint.config
    tasks = _tasks(config, arguments)
    questions = {name: _question(arguments, checkpoint.labels[name], task) for name, task in tasks.items()}
    accelerator = accelerator_for(config, arguments.device)
    predictor, divisor = load_predictor([checkpoint], accelerator)
    (model,) = predictor.models
    explainers = {
        name: Explainer(model, name, _method(arguments, task), arguments.levels) for name, task in tasks.items()
    }
    reporter, written = Reporter(), 0
    with writing(arguments.out):
        arguments.out.mkdir(parents=True, exist_ok=True)
    for image_id, place, image in ImageReader(files, config.image, config.data, reporter, "explain, images"):
        batch = batch_of([image], config.data, divisor).to(accelerator.device)
        # Not inference_mode, whose tensors cannot take part in what is differentiated.
        with torch.no_grad(), accelerator.autocast():
            found = predictor(batch)
        for name, task in tasks.items():
            labels, (prediction,) = checkpoint.labels[name], found[name]
            subjects = task.subjects(prediction, batch.sizes, labels, questions[name])
            if not subjects:
                reporter.say(f"{place}: nothing found to explain{_way_out(task, arguments)}")
                continue
            explainer = explainers[name]
            maps = explainer(batch, prediction, subjects)
            heats = [
                heat_in_image(one, explainer.method, (image.shape[0], image.shape[1]), config.data) for one in maps
            ]
            picture = Picture.of(image, config.image)
            panels = [_predicted(task, picture, prediction, labels, arguments.threshold)]
            panels += [explained(picture, *each) for each in zip(subjects, heats, strict=True)]
            stem = place.stem(image_id) + (f"_{name}" if len(config.heads) > 1 else "")
            with writing(arguments.out):
                save_picture(arguments.out / f"{stem}.png", draw_sheet(panels, _caption(explainer, batch.sizes)))
            written += 1
    if not written:
        raise UserError(f"nothing to explain was found in any image{_way_out(next(iter(tasks.values())), arguments)}")
    reporter.say(f"{written} pictures: {arguments.out}")


def _tasks(config: Experiment, arguments: ExplainArguments) -> dict[str, type[Task]]:
    """The kind of target of each head that is to be explained."""
    if arguments.head is not None and arguments.head not in config.heads:
        raise UserError(f"head is {arguments.head!r}; expected one of those of the run: {', '.join(config.heads)}")
    tasks = {name: task_of(head) for name, head in config.heads.items() if arguments.head in (None, name)}
    if arguments.region is not None and not any(task.reads == "masks" for task in tasks.values()):
        raise UserError("region is for masks, and no head that is explained gives any; leave it out")
    return tasks


def _question(arguments: ExplainArguments, labels: LabelMap, task: type[Task]) -> Question:
    for name in arguments.classes:
        if name not in labels.names:
            raise UserError(f"classes has {name!r}; expected names of the run: {', '.join(labels.names)}")
    if arguments.top < 1:
        raise UserError(f"top is {arguments.top}; expected 1 or more")
    classes = tuple(labels.names.index(name) for name in dict.fromkeys(arguments.classes)) or None
    left, top, right, bottom = arguments.region or (0, 0, 1, 1)
    if not (0 <= left < right and 0 <= top < bottom):
        raise UserError(f"region is {left} {top} {right} {bottom}; expected left top right bottom in pixels")
    return Question(classes, arguments.top, arguments.threshold, arguments.region if task.reads == "masks" else None)


def _method(arguments: ExplainArguments, task: type[Task]) -> Method:
    return arguments.method or default_method(task)


def default_method(task: type[Task]) -> Method:
    """The method for a kind of target, where none is asked for."""
    # What averages gradients over the map shows every object of a class, and not only the one asked for.
    return "gradcam" if task.reads == "labels" else "layercam"


def _way_out(task: type[Task], arguments: ExplainArguments) -> str:
    if task.reads == "boxes":
        return f": no box scores {arguments.threshold:g}; try a lower --threshold"
    return "; name classes with --classes to explain them all the same"


def heat_in_image(one: Tensor, method: Method, size: tuple[int, int], config: DataConfig) -> Heat:
    """A map of the pixels that the network was given, as shares of its largest value, in the whole original image."""
    heat = one.numpy()
    highest = np.percentile(heat, HIGHEST_PERCENTILE) if method == "integrated_gradients" else heat.max()
    heat = np.clip(heat / max(highest, 1e-30), 0, 1)
    resized, (top, left, height, width) = evaluated_part(size, config)
    whole = np.zeros(resized, np.float32)
    whole[top : top + height, left : left + width] = heat
    return np.asarray(cv2.resize(whole, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _predicted(
    task: type[Task], picture: Picture, prediction: Prediction, labels: LabelMap, threshold: float
) -> tuple[str, Picture]:
    drawn = picture.copy()
    task.draw(drawn, prediction, labels, threshold)
    return "predicted", drawn


def explained(picture: Picture, subject: Subject, heat: Heat) -> tuple[str, Picture]:
    """A panel with the heat, and where the subject lies."""
    drawn, zoom = picture.copy(), picture.zoom
    draw_heat(drawn, heat)
    line = max(1, round(max(drawn.pixels.shape[:2]) / 400))
    if subject.box is not None:
        left, top, right, bottom = (round(zoom * value) for value in subject.box.tolist())
        cv2.rectangle(drawn.pixels, (left, top), (right, bottom), class_colour(subject.label), line, cv2.LINE_AA)
    if subject.area is not None:
        height, width = drawn.pixels.shape[:2]
        area: Image = subject.area.cpu().numpy().astype(np.uint8)
        enlarged = cv2.resize(area, (width, height), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn.pixels, contours, -1, class_colour(subject.label), line, cv2.LINE_AA)
    return subject.title, drawn


def _caption(explainer: Explainer, sizes: ImageSizes) -> str:
    """What the colours mean, with the cells of each level: where they are few, the map is no more than a hint."""
    strides = {level: explainer.model.backbone.features[level].stride for level in explainer.levels}
    cells = [f"{name} ({' x '.join(str(-(-side // s)) for side in sizes.padded)})" for name, s in strides.items()]
    of = f" of {', '.join(cells)}" if cells else ""
    share = "share of the strongest pixel of each map"
    if explainer.method == "integrated_gradients":
        share = f"share of percentile {HIGHEST_PERCENTILE:g} of the pixels of each map"
    elif len(cells) > 1:
        share = "strongest level, each as tanh(2 x share of its strongest pixel)"
    return f"{share}, {NAMES[explainer.method]}{of}"
