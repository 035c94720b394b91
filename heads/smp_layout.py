"""State dicts of segmentation-models-pytorch's models, taken apart into a backbone and a head of ours."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from torch import Tensor

from backbones.errors import UserError
from backbones.layouts import ENCODER, translate
from backbones.weights_file import WeightsFile
from heads.model_layouts import ModelParts

HEAD = ("decoder.", "segmentation_head.")


def split_smp_model(file: WeightsFile, own: Collection[str], source: str) -> ModelParts:
    """The weights of a backbone and of a segmentation head, by our names.

    The encoders called resnet18 to resnet152 are torchvision's, and so ours; decoders keep their names.

    Args:
        file: weights of a model of segmentation-models-pytorch, without an auxiliary classifier.
        own: names of our backbone's parameters and buffers.
        source: names the file in errors.

    Raises:
        UserError: it is something else.
    """
    if any(name.startswith("decode_head.") for name in file.tensors):
        raise UserError(
            f"{source}: a model of MMSegmentation, none of whose decode heads computes what one of ours does; give it "
            "as --backbone.weights instead, which takes its backbone"
        )
    if any(name.startswith("encoder.features.norm5.") for name in file.tensors):
        raise UserError(
            f"{source}: a model of segmentation-models-pytorch on a DenseNet, whose last ReLU it leaves out and ours "
            "does not; give it as --backbone.weights instead, which takes its encoder"
        )
    prefix = ENCODER.prefixes[0]
    encoder = {name: tensor for name, tensor in file.tensors.items() if name.startswith(prefix)}
    head = {name: tensor for name, tensor in file.tensors.items() if name.startswith(HEAD)}
    unknown = file.tensors.keys() - head.keys() - encoder.keys()
    if not encoder or not head or unknown:
        what = f"{min(unknown)} is unknown" if unknown else f"nothing starts with {HEAD[0] if encoder else prefix}"
        raise UserError(
            f"{source}: {what}; expected a model of segmentation-models-pytorch, whose tensors are called encoder.*, "
            "decoder.* and segmentation_head.*"
        )
    backbone = translate(replace(file, tensors=encoder), own)
    return ModelParts(backbone.tensors, head, backbone.origin)


def join_smp_model(backbone: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `split_smp_model`."""
    return {f"{ENCODER.prefixes[0]}{name}": tensor for name, tensor in backbone.items()} | dict(head)
