"""A model by the place of its run or file, in three lines.

model = load_model("runs/x")            # or "x.onnx", "x.pt2"
predictions = model("image.jpg")
predictions.draw(), predictions.to_coco()
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backbones.errors import UserError
from tasks.data.files.image_file import Pixels, fit_pixels, read_image
from tasks.prediction.description import ModelDescription
from tasks.prediction.engine import Engine
from tasks.prediction.image_predictions import ImagePredictions

Image = str | Path | Pixels


class LoadedModel:
    """A model that takes images and gives predictions.

    Args:
        engine: what does the work.

    Attributes:
        description: classes, images and heads of the model.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def description(self) -> ModelDescription:
        """Classes, images and heads of the model."""
        return self.engine.description

    def __call__(self, image: Image) -> ImagePredictions:
        """Predictions for one image.

        Args:
            image: a file, or (H, W) or (H, W, C) stored pixels, RGB order.

        Raises:
            UserError: the image cannot be read, or has other channels or another depth than the model takes.
        """
        return self.batch([image])[0]

    def batch(self, images: Sequence[Image]) -> list[ImagePredictions]:
        """Predictions for several images at once; see `__call__`."""
        read = [self.read(image) for image in images]
        files = ["" if isinstance(image, np.ndarray) else str(image) for image in images]
        found = self.engine.predict(read) if read else []
        return [
            ImagePredictions(image, own, self.description, file)
            for image, own, file in zip(read, found, files, strict=True)
        ]

    def read(self, image: Image, frame: int = 0) -> Pixels:
        """Stored pixels (H, W, C) in the channels and depth of the model.

        Args:
            image: as in `__call__`.
            frame: which frame, page or slice of a file that holds several.

        Raises:
            UserError: see `__call__`.
        """
        spec, data = self.description.image, self.description.data
        if isinstance(image, np.ndarray):
            if image.ndim not in (2, 3) or not image.size:
                raise UserError(
                    f"an array of shape {image.shape} is no image; expected (height, width), or channels after them"
                )
            return fit_pixels(Path("array"), image, spec)
        return read_image(Path(image), spec, exif=data.exif, frame=frame, axis=data.slice_axis)


def load_model(path: str | Path, device: str = "auto", only: Sequence[str] = ()) -> LoadedModel:
    """The model of a run, a checkpoint, a cross-validation, or a file that `tools/export.py` wrote.

    Only a run imports the code of the network; an ONNX file needs onnxruntime alone.

    Args:
        path: the folder, or the file, `.onnx` or `.pt2`.
        device: auto, cuda, mps or cpu.
        only: heads to predict with; empty: all. An exported file has those that it was exported with.

    Raises:
        UserError: there is no model, or it cannot be used here.
    """
    path = Path(path)
    if path.suffix in (".onnx", ".pt2") and only:
        raise UserError(f"only is {' '.join(only)}, but the heads of {path} were chosen when it was exported")
    if path.suffix == ".onnx":
        from tasks.prediction.onnx_engine import OnnxEngine

        return LoadedModel(OnnxEngine(path, device))
    if path.suffix == ".pt2":
        from tasks.prediction.program_engine import ProgramEngine

        return LoadedModel(ProgramEngine(path, device))
    from tasks.prediction.run_engine import RunEngine

    return LoadedModel(RunEngine(path, device, only))
