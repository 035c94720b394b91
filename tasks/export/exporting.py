"""`tools/export.py`: a run as a file, compared with PyTorch before anybody uses it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

from backbones.errors import UserError
from tasks.checkpoint import Checkpoint, load_checkpoint
from tasks.checkpoint_fit import load_weights_strictly
from tasks.config import InferenceConfig, RunnerConfig
from tasks.data.annotations import Annotations
from tasks.data.files.image_file import Pixels
from tasks.data.splits import open_splits
from tasks.device import build_accelerator
from tasks.evaluation import Evaluator
from tasks.export.arguments import ExportArguments
from tasks.export.graph import ExportGraph, SizeNeeded, export_program
from tasks.export.lost_metric import show_lost
from tasks.export.onnx_file import halve, quantise, write_onnx
from tasks.export.parity import compare, require_parity, summary
from tasks.export.program_file import write_program
from tasks.inference import Predictor
from tasks.kinds import task_of, wanted_targets
from tasks.model import build_model
from tasks.output import writing
from tasks.predicting import fold_runs
from tasks.prediction.description import ModelDescription, preparing_options
from tasks.prediction.exported_engine import ExportedEngine
from tasks.prediction.onnx_engine import OnnxEngine
from tasks.prediction.program_engine import ProgramEngine
from tasks.prediction.run_engine import RunEngine, describe_head
from tasks.progress import Reporter

PRECISIONS = {"onnx": ("fp32", "fp16", "int8"), "torch": ("fp32", "bf16")}


@dataclass(frozen=True, slots=True)
class _Data:
    """Images to compare on: the splits of the run, or none where they are not there any more."""

    train: Annotations | None
    val: Annotations | None


def export_run(arguments: ExportArguments) -> None:
    """Write the best weights of a run as one file, and say how far it is from PyTorch.

    Raises:
        UserError: the run cannot be exported as asked, or the file does not give what PyTorch gives.
    """
    if arguments.precision not in PRECISIONS[arguments.format]:
        raise UserError(
            f"precision is {arguments.precision}; format {arguments.format} has "
            f"{', '.join(PRECISIONS[arguments.format])}"
        )
    if folds := fold_runs(arguments.run):
        raise UserError(f"{arguments.run} holds {len(folds)} models; a file has one: give {folds[0]}")
    checkpoint = load_checkpoint(arguments.run, prefer_best=True).keep(arguments.only)
    if arguments.precision == "bf16":
        boxes = [name for name, head in checkpoint.config.heads.items() if task_of(head).reads == "boxes"]
        if boxes:
            raise UserError(
                f"precision is bf16, and the head {boxes[0]!r} finds boxes: torch cannot read back such a program; use "
                "fp32, or --format onnx --precision fp16"
            )
    reporter = Reporter()
    data = _open_data(checkpoint, arguments, reporter)
    if arguments.precision == "int8" and data.train is None:
        raise UserError("int8 measures ranges on training images, which are not there; give their place with --data")
    out = arguments.out or _run_folder(arguments.run) / ("model.onnx" if arguments.format == "onnx" else "model.pt2")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        engine = _write(checkpoint, arguments, data, out, reporter)
    description = engine.description
    size = "any size" if description.fixed_size is None else "{} x {} pixels".format(*description.fixed_size[::-1])
    reporter.say(f"{out}: {out.stat().st_size / 2**20:.1f} MiB, batches of any number, images of {size}")
    if checkpoint.config.inference != InferenceConfig():
        reporter.say("inference.* of the config is not part of the file: it sees each image once and as a whole")
    reference = RunEngine(
        checkpoint.folder, "cpu", arguments.only, precision="fp32", padded=description.fixed_size, plain=True
    )
    differences = compare(reference, engine, islice(_images(checkpoint, data.val), max(arguments.images, 1)))
    count = len({one.image for one in differences})
    rows = [(one.output, f"{one.value:.2g}", f"{one.tolerance:g}", one.image) for one in summary(differences)]
    reporter.table(f"largest differences from PyTorch in {count} images", ("output", "differs", "may", "image"), rows)
    if arguments.precision == "fp32":
        require_parity(differences, out)
    elif data.val is None:
        reporter.say("the metric that is lost cannot be told without the data of the run; give --data")
    else:
        _show_lost(checkpoint, data.val, engine, reporter)


def _write(
    checkpoint: Checkpoint, arguments: ExportArguments, data: _Data, out: Path, reporter: Reporter
) -> ExportedEngine:
    """The file, opened again."""
    config = checkpoint.config
    model = build_model(config, checkpoint.labels)
    load_weights_strictly(model, checkpoint.weights(), checkpoint.folder)
    description = ModelDescription(
        name=config.name,
        heads={name: describe_head(head, checkpoint.labels[name]) for name, head in config.heads.items()},
        image=config.image,
        data=preparing_options(config.data),
        divisor=model.divisor,
    )
    if arguments.size is not None:
        description.fixed_size = _padded(arguments.size, model.divisor)
    dtype = torch.uint8 if config.image.bit_depth == 8 and not config.image.stores_real_numbers else torch.float32
    graph = ExportGraph(model, bf16=arguments.precision == "bf16")
    try:
        program = export_program(graph, description, dtype)
    except SizeNeeded as reason:
        description.fixed_size = _padded(config.data.size or (config.data.long_side,) * 2, model.divisor)
        height, width = description.fixed_size
        reporter.say(
            f"a layer of this network has to know the size beforehand ({reason}); all images are padded to {width} x "
            f"{height}, or give --size"
        )
        program = export_program(graph, description, dtype)
    if arguments.format == "torch":
        write_program(program, description, out)
        return ProgramEngine(out, "cpu")
    write_onnx(program, description, out)
    if arguments.precision == "fp16":
        halve(out, description)
    elif arguments.precision == "int8":
        whole = OnnxEngine(out, "cpu")
        images = islice(_images(checkpoint, data.train), arguments.calibration)
        quantise(out, description, [whole.batch([pixels]) for _, pixels in images])
    return OnnxEngine(out, "cpu")


def _padded(size: tuple[int, ...], divisor: int) -> tuple[int, int]:
    height, width = (-(-side // divisor) * divisor for side in size)
    return height, width


def _open_data(checkpoint: Checkpoint, arguments: ExportArguments, reporter: Reporter) -> _Data:
    data = checkpoint.config.data
    if arguments.data is not None:
        data.root, data.sources = arguments.data, {}
    if data.root is None or not data.root.exists():
        if arguments.data is not None:
            raise UserError(f"data is {arguments.data}, which does not exist; give the place of the data of the run")
        reporter.say("the data of the run is not in one place: the file is compared on generated images; see --data")
        return _Data(None, None)
    train, val, _ = open_splits(data, checkpoint.config.runner.seed, wanted_targets(checkpoint.config))
    return _Data(train, val)


def _images(checkpoint: Checkpoint, split: Annotations | None) -> Iterator[tuple[str, Pixels]]:
    """Name and stored pixels of the images of a split, or of generated ones, without end."""
    image, data = checkpoint.config.image, checkpoint.config.data
    if split is not None:
        for index in range(len(split)):
            yield split.describe(index), split.image(index, image, data.exif)
        return
    random, number = np.random.default_rng(0), 0
    while True:
        number += 1
        height, width = random.integers(200, 500, 2).tolist()
        # Smooth: what networks see in plain noise is everywhere alike.
        coarse = random.random((height // 16, width // 16, image.stored_channels), np.float32)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        pixels = smooth.reshape(height, width, -1) * (image.white - image.black) + image.black
        dtype = np.float32 if image.stores_real_numbers else np.uint8 if image.bit_depth == 8 else np.uint16
        yield f"generated image {number}", pixels.astype(dtype)


def _show_lost(checkpoint: Checkpoint, val: Annotations, engine: ExportedEngine, reporter: Reporter) -> None:
    config = checkpoint.config
    accelerator = build_accelerator(RunnerConfig(device="cpu", precision="fp32"))
    model = build_model(config, checkpoint.labels)
    load_weights_strictly(model, checkpoint.weights(), checkpoint.folder)
    evaluator = Evaluator(config, val, checkpoint.labels, accelerator, model.divisor)
    show_lost(evaluator, Predictor([model], InferenceConfig()), engine, reporter)


def _run_folder(run: Path) -> Path:
    """Of a run folder, a checkpoint in it, or a file of that: where the model is written."""
    folder = run if run.is_dir() else run.parent
    return folder.parents[1] if (folder / "state.json").exists() and folder.parent.name == "checkpoints" else folder
