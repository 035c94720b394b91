"""State dicts of segmentation-models-pytorch's models, taken apart into a backbone and a head of ours."""

from collections.abc import Mapping

from torch import Tensor

from backbones.errors import UserError

ENCODER, HEAD = "encoder.", ("decoder.", "segmentation_head.")


def split_smp_model(state: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a backbone and of a segmentation head, by our names.

    The encoders called resnet18 to resnet152 are torchvision's, and so ours; decoders keep their names.

    Args:
        state: of a model of segmentation-models-pytorch, without an auxiliary classifier.
        source: names the file in errors.

    Raises:
        UserError: it is something else.
    """
    backbone = {key.removeprefix(ENCODER): tensor for key, tensor in state.items() if key.startswith(ENCODER)}
    head = {key: tensor for key, tensor in state.items() if key.startswith(HEAD)}
    unknown = state.keys() - head.keys() - {ENCODER + key for key in backbone}
    if not backbone or not head or unknown:
        what = f"{min(unknown)} is unknown" if unknown else f"nothing starts with {'decoder.' if backbone else ENCODER}"
        raise UserError(
            f"{source}: {what}; expected a model of segmentation-models-pytorch, whose tensors are called encoder.*, "
            "decoder.* and segmentation_head.*"
        )
    return backbone, head
