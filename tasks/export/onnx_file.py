"""A program as an ONNX file, also with 16-bit or 8-bit arithmetic in its layers."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from backbones.errors import UserError
from tasks.prediction.description import ModelDescription
from tasks.prediction.exported_engine import output_names
from tasks.prediction.onnx_engine import KEY
from tasks.prediction.preparing import Images, Sizes

if TYPE_CHECKING:
    import onnx

# Layers with weights, and what lies between them. What computes coordinates, sorts or suppresses stays in 32 bits:
# half a pixel at 1,000 is all that 16 bits hold.
IN_16_BITS = {"Conv", "ConvTranspose", "Gemm", "Relu", "MaxPool", "BatchNormalization"}
IN_8_BITS = ["Conv", "Gemm"]


def write_onnx(program: ExportedProgram, description: ModelDescription, file: Path) -> None:
    """Write a program, in 32 bits.

    Args:
        program: of `tasks.export.graph`.
        description: goes into the metadata.
        file: to write.

    Raises:
        UserError: an operation has no counterpart in ONNX, or packages of the extra `export` are missing.
    """
    _require_packages()
    import onnx

    try:
        with _quietly():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=["images", "sizes"],
                output_names=output_names(description),
            )
    except Exception as error:  # of several classes, with pages of text
        reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"this network cannot be written as ONNX: {reason}; try --format torch") from None
    assert exported is not None
    model: onnx.ModelProto = exported.model_proto
    _save(model, description, file)


def halve(file: Path, description: ModelDescription) -> None:
    """Turn the layers of an ONNX file into 16 bits, in place; inputs and outputs stay what they are."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(file)
    others = sorted({node.op_type for node in _nodes(model.graph)} - IN_16_BITS)
    with _quietly():
        halved = convert_float_to_float16(model, keep_io_types=True, op_block_list=others, disable_shape_infer=True)
    _save(halved, description, file)


def quantise(file: Path, description: ModelDescription, batches: Sequence[tuple[Images, Sizes]]) -> None:
    """Turn the layers of an ONNX file into 8 bits, in place.

    Weights are quantised by channel, activations by the ranges that they have in `batches` (static quantisation, as
    pairs of QuantizeLinear and DequantizeLinear).

    Args:
        file: in 32 bits.
        description: goes into the metadata.
        batches: as the graph takes them; of training images.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(batches)

        def get_next(self) -> Any:
            following = next(self.rest, None)
            return None if following is None else {"images": following[0], "sizes": following[1]}

    with tempfile.TemporaryDirectory() as folder, _quietly():
        quantised = Path(folder) / "int8.onnx"
        quantize_static(
            str(file),
            str(quantised),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=IN_8_BITS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        model = onnx.load(quantised)
    _save(model, description, file)


def _save(model: "onnx.ModelProto", description: ModelDescription, file: Path) -> None:
    import onnx

    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: description.model_dump_json(exclude_defaults=True)})
    onnx.save(model, file)


def _nodes(graph: "onnx.GraphProto") -> Iterator["onnx.NodeProto"]:
    """Of a graph and those within it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"ONNX files need the package {error.name}; install the extra: pip install -e '.[export]'"
        ) from None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what libraries print about their own work."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
