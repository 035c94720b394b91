"""State dicts of classifiers: a backbone under any of its known names, and one linear layer."""

from collections.abc import Collection
from dataclasses import replace

from backbones.errors import UserError
from backbones.layouts import translate
from backbones.weights_file import WeightsFile
from heads.model_layouts import ModelParts

# torchvision's and timm's ResNets; DenseNets; the CIFAR networks of akamaster/pytorch_resnet_cifar10; MMPretrain and
# other networks of timm's.
CLASSIFIERS = ("fc", "classifier", "linear", "head.fc", "head")


def split_classifier(file: WeightsFile, own: Collection[str], source: str = "state dict") -> ModelParts:
    """A classifier of torchvision's, timm's or MMPretrain's, as a backbone of ours and `Classification`.

    Args:
        file: the weights.
        own: names of our backbone's parameters and buffers.
        source: names the file in messages.

    Raises:
        UserError: there is no linear layer by any of the names it has in these libraries.
    """
    for layer in CLASSIFIERS:
        names = {f"{layer}.{kind}": f"linear.{kind}" for kind in ("weight", "bias")}
        if names.keys() <= file.tensors.keys() and not names.keys() & set(own):
            head = {ours: file.tensors[theirs] for theirs, ours in names.items()}
            head["linear.weight"] = head["linear.weight"].flatten(1)  # in some networks of timm's a 1x1 convolution
            rest = {key: tensor for key, tensor in file.tensors.items() if key not in names}
            backbone = translate(replace(file, tensors=rest), own)
            return ModelParts(backbone.tensors, head, backbone.origin)
    raise UserError(
        f"{source}: no classifier in it: none of {', '.join(CLASSIFIERS)} has a weight and a bias; expected the whole "
        "state dict of a classifier of torchvision's, timm's or MMPretrain's"
    )
