"""A model as one function of tensors, and that function as a program of fixed operations."""

import warnings
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from backbones.errors import UserError
from heads.classification import Classification
from heads.contract import ImageSizes, PaddedDetector
from heads.segmentation import SegmentationHead
from tasks.data.sample import Batch
from tasks.model import Model
from tasks.prediction.description import ModelDescription


class ExportGraph(nn.Module):
    """A model that takes and gives tensors alone, as `tasks.prediction.exported_engine` describes them.

    Args:
        model: in evaluation mode from here on.
        bf16: compute as mixed precision does.

    Raises:
        UserError: a head cannot be exported.
    """

    def __init__(self, model: Model, bf16: bool = False) -> None:
        super().__init__()
        self.model, self.bf16 = model.eval(), bf16
        for name, head in model.heads.items():
            if not isinstance(head, PaddedDetector | Classification | SegmentationHead):
                raise UserError(
                    f"heads.{name}: {type(head).__name__} cannot be exported; expected a classification or "
                    "segmentation head, or a detector that is a heads.contract.PaddedDetector"
                )

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """`images` (B, C, H, W) of stored values, `sizes` (B, 2) int64 -> the outputs of all heads, in order."""
        with torch.autocast("cpu", torch.bfloat16) if self.bf16 else nullcontext():
            return self._outputs(images, sizes)

    def _outputs(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        image_sizes = ImageSizes((images.shape[2], images.shape[3]), sizes, sizes)
        features = self.model.features(Batch(images, image_sizes, None, (), ()))  # type: ignore[arg-type]
        outputs: list[Tensor] = []
        for head in self.model.heads.values():
            if isinstance(head, PaddedDetector):
                found = head.predict_padded(features, image_sizes)
                outputs += [found.boxes, found.scores, found.labels]
                outputs += [] if found.masks is None else [found.masks]
            elif isinstance(head, Classification | SegmentationHead):
                outputs.append(head.scores(features, image_sizes))
        return tuple(outputs)


def export_program(graph: ExportGraph, description: ModelDescription, dtype: torch.dtype) -> ExportedProgram:
    """The graph as operations.

    Args:
        graph: of a model on the CPU.
        description: tells the divisor, and the size if that is fixed.
        dtype: of the images, uint8 or float32.

    Raises:
        UserError: an operation of the network needs to know the size beforehand.
    """
    if description.fixed_size is None:
        for name, module in graph.named_modules():
            if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d) and _cells(module) != {1}:
                raise SizeNeeded(f"{name.removeprefix('model.')} pools to {module.output_size} cells a side")
    divisor = description.divisor
    # Large enough that no level of a pyramid has a single row or column, which would be taken for a fixed number.
    side = -(-320 // divisor) * divisor
    height, width = description.fixed_size or (side + max(divisor, 64), side)
    images = torch.randint(0, 255, (2, description.image.stored_channels, height, width)).to(dtype)
    sizes = torch.tensor([[height, width], [height - 5, width - 9]])
    batch = Dim("batch")
    free: dict[int, object] = {0: batch}
    if description.fixed_size is None:
        free |= {2: divisor * Dim("rows"), 3: divisor * Dim("columns")}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about its own insides
            return torch.export.export(
                graph, (images, sizes), dynamic_shapes={"images": free, "sizes": {0: batch}}, strict=False
            )
    except Exception as error:  # torch raises many classes here, with pages of advice for its own developers
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if description.fixed_size is None:
            raise SizeNeeded(reason) from None
        raise UserError(f"torch.export cannot follow this network: {reason}") from None


def _cells(module: nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d) -> set[int | None]:
    sides = module.output_size
    return set(sides) if isinstance(sides, tuple) else {sides}


class SizeNeeded(Exception):
    """A network cannot be exported for images of any size."""
