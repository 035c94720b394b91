"""A program as a file of `torch.export`."""

import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram

from tasks.prediction.description import ModelDescription
from tasks.prediction.program_engine import DESCRIPTION


def write_program(program: ExportedProgram, description: ModelDescription, file: Path) -> None:
    """Write a program with its description beside it in the file.

    The images that it was traced with are left out.
    """
    program.example_inputs = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, file, extra_files={DESCRIPTION: description.model_dump_json(exclude_defaults=True)})
