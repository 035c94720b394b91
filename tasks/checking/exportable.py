"""Writing the network as a program for other machines, and reading it back."""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from backbones.errors import UserError
from tasks.checking.finding import Finding, Kind
from tasks.checking.network import Network
from tasks.export.graph import ExportGraph, export_program
from tasks.export.parity import TOLERANCES
from tasks.export.program_file import write_program
from tasks.prediction.description import ModelDescription, preparing_options
from tasks.prediction.run_engine import describe_head

NOT_EXPORTABLE = Kind(
    "not-exportable",
    "note",
    "`torch.export` cannot follow the network, or a head has no form with outputs of fixed sizes.",
    "It can be trained and used from its run, but not be exported (tools/export.py).",
)
EXPORT_DIFFERS = Kind(
    "export-differs",
    "warning",
    "The network that was exported and read back gives other predictions.",
    "The file that tools/export.py writes would be wrong: a prediction depends on something outside of its tensors.",
)


@torch.no_grad()
def export(network: Network) -> Iterator[Finding]:
    """Export for images of the size of the batch, write, read, compare."""
    if network.batch is None or network.start.problem:
        return
    batch, config = network.batch.to(torch.device("cpu")), network.config
    model = copy.deepcopy(network.tried if network.tried is not None else network.model).cpu().float()
    description = ModelDescription(
        name=config.name,
        heads={name: describe_head(head, network.subject.labels[name]) for name, head in config.heads.items()},
        image=config.image,
        data=preparing_options(config.data),
        divisor=model.divisor,
        fixed_size=batch.sizes.padded,
    )
    try:
        graph = ExportGraph(model)
        expected = graph(batch.images, batch.sizes.valid)
        program = export_program(graph, description, batch.images.dtype)
    except UserError as error:
        fix = "none is needed to train; heads.contract.PaddedDetector says what a detector must have"
        yield Finding(NOT_EXPORTABLE, str(error), "a network that can be exported", fix)
        return
    with tempfile.TemporaryDirectory(prefix="polyhead-check-") as folder:
        file = Path(folder) / "model.pt2"
        write_program(program, description, file)
        found = torch.export.load(file).module()(batch.images, batch.sizes.valid)
    apart = _apart(expected, found)
    if apart > TOLERANCES["scores"]:
        yield Finding(
            EXPORT_DIFFERS,
            f"outputs differ by up to {apart:.2g} of their size after exporting",
            f"at most {TOLERANCES['scores']:g}",
            "let predictions depend on inputs, parameters and buffers alone, not on what changes from call to call",
        )


def _apart(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """The largest difference of an output, as a share of its largest value, or of 1 where that is more."""
    return max(
        float((one.float() - other.float()).abs().max() / one.float().abs().max().clamp(min=1)) if one.numel() else 0.0
        for one, other in zip(expected, found, strict=True)
    )
