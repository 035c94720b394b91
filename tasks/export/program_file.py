"""A program as a file of `torch.export`."""

import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from tasks.prediction.description import ModelDescription
from tasks.prediction.program_engine import DESCRIPTION


def write_program(program: ExportedProgram, description: ModelDescription, file: Path) -> None:
    """Write a program with its description beside it in the file.

    The images that it was traced with are left out.
    """
    program.example_inputs = None
    _describe_blocks(program.graph_module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, file, extra_files={DESCRIPTION: description.model_dump_json(exclude_defaults=True)})


def _describe_blocks(module: GraphModule) -> None:
    """Tell of each block of operations under one precision what it gives.

    `torch.export.save` leaves that out (torch 2.14), and `torch.export.load` refuses to read what lacks it.
    """
    for node in module.graph.nodes:
        if node.op != "call_function" or "val" in node.meta:
            continue
        for argument in node.args:
            block = getattr(module, str(argument.target), None) if isinstance(argument, Node) else None
            if isinstance(block, GraphModule):
                _describe_blocks(block)
                (outputs,) = block.graph.output_node().args
                assert isinstance(outputs, tuple)
                node.meta["val"] = tuple(one.meta["val"] for one in outputs if isinstance(one, Node))
