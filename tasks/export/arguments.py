"""What `tools/export.py` takes; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass
class ExportArguments:
    """Write a trained model as one file for other programs, and check it on real images against PyTorch.

    The file takes batches of any number of images. It takes images of any size too, unless a layer of the network has
    to know the size beforehand, as the pyramid pooling of `pspnet` has: such a file says so, and all images are padded
    to --size. Windows, mirrored and scaled copies of the config's `inference` section are not part of a file.
    """

    run: tyro.conf.Positional[Path]
    """A run folder (its best checkpoint) or a checkpoint."""
    out: Path | None = None
    """The file; by default model.onnx or model.pt2 in the run folder."""
    format: Literal["onnx", "torch"] = "onnx"
    """ONNX, or a program of torch.export (.pt2)."""
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    """Of convolutions and fully connected layers: fp16 and int8 for onnx, bf16 for torch. The metric that is lost on
    the validation images is reported."""
    size: tuple[int, int] | None = None
    """Height and width that all batches are padded to; None: any size, where the network can."""
    images: int = 16
    """Validation images to compare with PyTorch on."""
    calibration: int = 32
    """Training images that int8 measures ranges of values on."""
    only: tuple[str, ...] = ()
    """Heads to export; by default all."""
    data: Path | None = None
    """Where the data of the run lies now; None: where it was."""
