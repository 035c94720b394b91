"""A `torch.export` program that `tools/export.py` wrote; it needs torch and torchvision, not the network's code."""

from pathlib import Path

import torch
import torchvision

from backbones.errors import UserError
from tasks.prediction.description import ModelDescription
from tasks.prediction.exported_engine import Arrays, ExportedEngine, output_names
from tasks.prediction.preparing import Images, Sizes

DESCRIPTION = "polyhead.json"  # beside the program, in the file
# Detectors suppress and pool by operators of torchvision's, which its import registers.
OPERATORS = torchvision.ops


class ProgramEngine(ExportedEngine):
    """A program in torch.

    Args:
        path: the file.
        device: cpu, or cuda; auto takes what there is.

    Raises:
        UserError: the file is not there, or no export of ours.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        if not path.is_file():
            raise UserError(f"{path}: no such file; expected a .pt2 file written by tools/export.py")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        files = {DESCRIPTION: ""}
        try:
            program = torch.export.load(path, extra_files=files)
        except Exception as error:  # whatever its readers stumble over
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{path}: torch cannot load it ({reason}); export the run again") from None
        super().__init__(ModelDescription.read(files[DESCRIPTION], path))
        if device != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        self._device, self._module = torch.device(device), program.module()
        self._names = output_names(self.description)

    def run(self, images: Images, sizes: Sizes) -> Arrays:
        """See `ExportedEngine`."""
        with torch.inference_mode():
            outputs = self._module(torch.from_numpy(images).to(self._device), torch.from_numpy(sizes).to(self._device))
        return {name: output.cpu().numpy() for name, output in zip(self._names, outputs, strict=True)}
