"""An ONNX file that `tools/export.py` wrote, run by onnxruntime; neither torch nor the network's code is imported."""

from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import UserError
from tasks.prediction.description import ModelDescription
from tasks.prediction.exported_engine import Arrays, ExportedEngine, output_names
from tasks.prediction.preparing import Images, Sizes

KEY = "polyhead"  # of the description, in the file's metadata


class OnnxEngine(ExportedEngine):
    """A file in onnxruntime.

    Args:
        path: the file.
        device: cpu; cuda, if the installed onnxruntime has it; auto takes what there is. `mps` is refused.

    Raises:
        UserError: the file or the device is not there, onnxruntime is not installed, or no export of ours.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        if not path.is_file():
            raise UserError(f"{path}: no such file; expected an ONNX file written by tools/export.py")
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{path} needs onnxruntime; install it with: pip install onnxruntime") from None
        there = onnxruntime.get_available_providers()
        wanted = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
        wanted["auto"] = [name for name in wanted["cuda"] if name in there]
        if device not in wanted or not set(wanted[device]) <= set(there):
            raise UserError(f"device is {device}, which the installed onnxruntime does not have; use --device cpu")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=wanted[device])
        except Exception as error:  # onnxruntime raises a class of its own for each of its states
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{path}: onnxruntime cannot load it ({reason}); export the run again") from None
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise UserError(f"{path}: does not describe its classes and images; expected a file of tools/export.py")
        super().__init__(ModelDescription.read(text, path))
        self._names = output_names(self.description)

    def run(self, images: Images, sizes: Sizes) -> Arrays:
        """See `ExportedEngine`."""
        outputs: Any = self._session.run(self._names, {"images": images, "sizes": np.ascontiguousarray(sizes)})
        return dict(zip(self._names, outputs, strict=True))
