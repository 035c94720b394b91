"""Images in, named feature maps out. `from backbones import Backbone, FeatureSpec, register_backbone`."""

from backbones import resnet  # registers resnet18 to resnet152
from backbones.contract import Backbone, FeatureSpec, backbones, build_backbone, register_backbone
from backbones.errors import UserError
from backbones.weights import LoadReport, load_weights

__all__ = [
    "Backbone",
    "FeatureSpec",
    "LoadReport",
    "UserError",
    "backbones",
    "build_backbone",
    "load_weights",
    "register_backbone",
    "resnet",
]
